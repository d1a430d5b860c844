"""`preforkd reload`: configuration and code are read again, proved beside the old ones, and the workers replaced.

The daemon does all of it and judges the file itself, so that a bad one is in its log, too; this waits for its word.
"""

from __future__ import annotations

import click

from supervisor.cli.console import print_line
from supervisor.cli.invocation import SECONDS, Invocation, pass_invocation
from supervisor.control.client import NoAnswer
from supervisor.control.protocol import typed
from supervisor.control.results import Reloaded
from supervisor.errors import ControlError
from supervisor.quantities import show_seconds

TIMEOUT_S = 300.0


@click.command("reload")
@click.option(
    "--timeout", "timeout_s", type=SECONDS, default=TIMEOUT_S, help="The longest wait for the end of the reload (5m)."
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


def _print(result: Reloaded) -> None:
    print_line(f"reloaded in {show_seconds(result.took_s)}: every worker has the new code")
    for what, names in (("added", result.added), ("removed", result.removed)):
        for name in names:
            print_line(f"  pool {name} {what}")
    for section, keys in result.changed.items():
        print_line(f"  [{section}] changed: {', '.join(keys)}")
    for name in result.reconnected:
        print_line(f"  pool {name}: its consumer was replaced, with a new connection")
