"""`preforkd pause`, `resume`, `retry` and `reload`: what an operator does while the daemon runs.

The daemon does all of a reload and judges the file itself, so that a bad one is in its log, too; the command waits for
its word.
"""

from __future__ import annotations

import getpass
import os

import click

from supervisor.cli.command import command
from supervisor.cli.completion import pools
from supervisor.cli.console import print_line
from supervisor.cli.invocation import SECONDS, Invocation, pass_invocation
from supervisor.control.client import NoAnswer
from supervisor.control.protocol import typed
from supervisor.control.results import Changed, Reloaded, Tried
from supervisor.errors import ControlError
from supervisor.quantities import show_seconds

TIMEOUT_S = 300.0

PAUSED = {True: "is paused", False: "was paused already"}
RESUMED = {True: "takes messages again", False: "was not paused"}
"""By whether the order has changed something."""


@command(
    "pause",
    ("Take no more messages for the pool `email`", "preforkd pause email"),
)
@click.argument("pool", shell_complete=pools)
@pass_invocation
def pause_command(invocation: Invocation, pool: str) -> int:
    """Take no more messages for POOL.

    Running handlers finish, other messages are requeued. A paused pool stays paused until `preforkd resume` or a
    restart of the daemon.
    """
    pool = invocation.pool(pool)
    changed = invocation.ask_for(Changed, "pause", pool=pool, by=operator()).changed
    print_line(f"pool {pool} {PAUSED[changed]}")
    return 0


@command(
    "resume",
    ("Take messages for the pool `email` again", "preforkd resume email"),
)
@click.argument("pool", shell_complete=pools)
@pass_invocation
def resume_command(invocation: Invocation, pool: str) -> int:
    """Take messages for POOL again."""
    pool = invocation.pool(pool)
    changed = invocation.ask_for(Changed, "resume", pool=pool).changed
    print_line(f"pool {pool} {RESUMED[changed]}")
    return 0


@command(
    "retry",
    ("Try a held pool at once, after its fault was removed", "preforkd retry email"),
)
@click.argument("pool", shell_complete=pools)
@pass_invocation
def retry_command(invocation: Invocation, pool: str) -> int:
    """Start the held children of POOL at once, instead of after hold_retry."""
    pool = invocation.pool(pool)
    tried = invocation.ask_for(Tried, "retry", pool=pool).tried
    print_line(
        f"pool {pool}: trying {', '.join(tried)}"
        if tried
        else f"pool {pool}: no child is held or waits for its back-off"
    )
    return 0


@command(
    "reload",
    ("Test the new configuration, then load it", "preforkd check && preforkd reload"),
)
@click.option(
    "--timeout",
    "timeout_s",
    type=SECONDS,
    default=TIMEOUT_S,
    help="Wait so long at most for the end of the reload (5m).",
)
@pass_invocation
def reload_command(invocation: Invocation, timeout_s: float) -> int:
    """Load changed configuration and code, and replace the workers one after another.

    Returns after the last replacement. Exit code 78: the configuration or the new code is bad; nothing has changed.
    """
    with invocation.connect() as daemon:
        queued = daemon.ask("reload", wait=True)["queued"]
        if queued:
            print_line("another reload is under way; this one follows")
        try:
            result = typed(daemon.next_answer(timeout_s), Reloaded)
        except NoAnswer as error:
            raise ControlError(
                f"the reload is not over after {timeout_s:g} s and goes on in the background (it waits for running "
                "handlers); `preforkd status` shows what it waits for"
            ) from error
    _print(result)
    return 0


def scaled_text(pool: str, former: int, workers: int) -> str:
    """What a `scale` has done."""
    return f"pool {pool}: {former} -> {workers} workers, until the next reload or restart"


def operator() -> str:
    """The person behind this command, for `status`: also behind a sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        return f"uid {os.getuid()}"


def _print(result: Reloaded) -> None:
    print_line(f"reloaded in {show_seconds(result.took_s)}: every worker has the new code")
    for what, names in (("added", result.added), ("removed", result.removed)):
        for name in names:
            print_line(f"  pool {name} {what}")
    for section, keys in result.changed.items():
        print_line(f"  [{section}] changed: {', '.join(keys)}")
    for name in result.reconnected:
        print_line(f"  pool {name}: its consumer was replaced, with a new connection")
