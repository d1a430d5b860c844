"""`preforkd exits`: the exit history, read from its files; it works whether or not a daemon runs."""

from __future__ import annotations

import json
import time
from collections import deque

import click

from supervisor.cli.command import command
from supervisor.cli.completion import pools
from supervisor.cli.console import child_of, ended_with, print_line, print_table, shown
from supervisor.cli.invocation import AtLeast, Invocation, pass_invocation
from supervisor.errors import ConfigError, PreforkdError, no_such_pool
from supervisor.exit_history import HistoryTail, Record, wanted
from supervisor.logs.events import Cause
from supervisor.quantities import show_seconds

_CAUSES = [cause.value for cause in Cause]
_FOLLOW_S = 0.25


@command(
    "exits",
    ("The last 20 exits", "preforkd exits"),
    ("New time limit kills of one pool, as they happen", "preforkd exits --pool email --cause timeout -f"),
    ("The whole history, for a program", "preforkd exits -n 0 --json"),
)
@click.option("--pool", shell_complete=pools, metavar="POOL", help="List exits of this pool only.")
@click.option(
    "--cause",
    metavar="CAUSE",
    type=click.Choice(_CAUSES),
    help=f"List exits with this cause only: {', '.join(_CAUSES)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the records as one JSON object a line.")
@click.option("--follow", "-f", is_flag=True, help="Print new exits as they happen, until Ctrl-C.")
@click.option(
    "-n",
    "count",
    type=AtLeast(0),
    metavar="NUMBER",
    default=20,
    show_default=True,
    help="List so many exits; 0: all.",
)
@pass_invocation
def exits_command(
    invocation: Invocation, pool: str | None, cause: str | None, as_json: bool, follow: bool, count: int
) -> int:
    """List the last exits of workers, forkservers and consumers, oldest first."""
    if pool is not None:
        pool = _pool_meant(invocation, pool)
    with HistoryTail(invocation.state_dir) as tail:
        last = list(deque(wanted(tail.new(), pool, cause), maxlen=count or None))
        if as_json:
            _print_json(last)
        elif last:
            print_table(_COLUMNS, map(_row, last))
        else:
            print_line(f"no such exits on record in {invocation.state_dir}")
        while follow:
            time.sleep(_FOLLOW_S)
            fresh = list(wanted(tail.new(), pool, cause))
            _print_json(fresh) if as_json else _print_lines(fresh)
    return 0


def _pool_meant(invocation: Invocation, name: str) -> str:
    """The pool with this name or queue; a pool that was removed counts while it is on record. Raises PreforkdError."""
    found = invocation.find_pool(name)
    if found == name:
        return name
    with HistoryTail(invocation.state_dir) as tail:
        if any(record.get("pool") == name for record in tail.new()):
            return name
    if found is None:
        _check_pool(invocation, name)
    return found or name


def _check_pool(invocation: Invocation, pool: str) -> None:
    """Raise PreforkdError for a pool that neither the daemon nor the configuration has."""
    try:
        known = invocation.queues(invocation.status())
    except ConfigError:  # nor does the file: the history can be read all the same
        return
    if pool not in known:
        raise PreforkdError(f"{no_such_pool(pool, known)}; and no exit of one is on record in {invocation.state_dir}")


_COLUMNS = ("AT", "CHILD", ">PID", "CAUSE", "STATUS", ">UP", "RUN", ">ATTEMPT", "MESSAGE", "NOTE")


def _row(record: Record) -> tuple[object, ...]:
    uptime_s = record.get("uptime_s")
    return (
        record.get("at", "-"),
        child_of(record),
        record.get("pid", "-"),
        record.get("cause", "-"),
        ended_with(record.get("status"), record.get("signal")),
        "-" if uptime_s is None else show_seconds(uptime_s),
        record.get("run") or "-",
        record.get("attempt") or "-",
        record.get("message_id") or "-",
        f"OOM {record['oom_evidence']}" if record.get("oom_evidence") else "",
    )


def _print_lines(records: list[Record]) -> None:
    for record in records:
        click.echo("  ".join(shown(cell) for cell in _row(record)).rstrip())


def _print_json(records: list[Record]) -> None:
    for record in records:
        click.echo(json.dumps(record))
