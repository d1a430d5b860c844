"""`preforkd logs`: the daemon's log from wherever it goes, as people read it. Works whether or not a daemon runs.

`place.py` finds the log; `log_file.py` and `journal.py` read it, from its end and as it grows; `lines.py` (pure) knows
the forms that a line may have. A line is text from outside: nothing in it can command a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing

import click

from supervisor.cli.command import command
from supervisor.cli.completion import pools
from supervisor.cli.invocation import AtLeast, Invocation, pass_invocation
from supervisor.cli.logs.lines import Line, is_about, shown_line
from supervisor.cli.logs.place import find_log
from supervisor.errors import ConfigError, PreforkdError, no_such_pool


@command(
    "logs",
    ("The last 100 lines", "preforkd logs"),
    ("All about one pool, as it happens", "preforkd logs email --follow"),
    ("What a unit of another name has logged", "preforkd logs --unit mail-workers -n 1000"),
    ("The whole log, for a program", "preforkd logs -n 0 --json"),
)
@click.argument("pool", required=False, shell_complete=pools)
@click.option("--follow", "-f", is_flag=True, help="Print new lines as they are logged, until Ctrl-C.")
@click.option(
    "--lines",
    "-n",
    "count",
    type=AtLeast(0),
    metavar="NUMBER",
    default=100,
    show_default=True,
    help="Begin with so many of the last lines; 0: all.",
)
@click.option("--unit", metavar="UNIT", help="Read the journal of this systemd unit.")
@click.option("--json", "as_json", is_flag=True, help="Print each line as one JSON object.")
@pass_invocation
def logs_command(
    invocation: Invocation, pool: str | None, follow: bool, count: int, unit: str | None, as_json: bool
) -> int:
    """Show the last lines of the daemon's log, oldest first.

    The log is the file in [log], the journal of the daemon's unit, or the file of `preforkd start`. With POOL (or its
    queue): only lines that name the pool; printed text of handlers names none.
    """
    meant = None if pool is None else invocation.find_pool(pool) or pool
    show = _json if as_json else shown_line
    with closing(find_log(invocation, unit)) as log:
        seen = 0
        for line in log.last(count, _wanted(meant), follow):
            click.echo(show(line))
            seen += 1
        if meant is not None and not seen:
            _check_pool(invocation, meant)
        if follow:
            for line in filter(_wanted(meant), log.follow()):
                click.echo(show(line))
        elif not seen:
            click.echo(f"no such lines in {log.name}", err=True)
    return 0


def _wanted(pool: str | None) -> Callable[[Line], bool]:
    return lambda line: pool is None or is_about(line, pool)


def _json(line: Line) -> str:
    return json.dumps(line.facts or {"message": line.text})


def _check_pool(invocation: Invocation, pool: str) -> None:
    """Raise PreforkdError for a pool that neither the daemon nor the configuration has."""
    try:
        known = invocation.queues(invocation.status())
    except ConfigError:  # nor does the file: the log can be read all the same
        return
    if pool not in known:
        raise PreforkdError(f"{no_such_pool(pool, known)}; and no line of the log names one")
