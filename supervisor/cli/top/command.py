"""`preforkd top`: see how a daemon does, and act on it, in a terminal of any size."""

from __future__ import annotations

from contextlib import closing

import click

from supervisor.cli.duration import SECONDS
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.pools import operator
from supervisor.cli.top.display import make_display
from supervisor.cli.top.loop import INTERVAL_S
from supervisor.cli.top.operated import OperatedLoop
from supervisor.cli.top.page import TopPage


@click.command("top")
@click.option("--interval", "interval_s", type=SECONDS, default=INTERVAL_S, help="Refresh this often (1s).")
@click.option("--once", is_flag=True, help="Print one screen and exit; for scripts. Without rates, which need two.")
@pass_invocation
def top_command(invocation: Invocation, interval_s: float, once: bool) -> int:
    """Watch pools, workers and exits live; pause, scale and reload with keys (? lists them).

    Without a terminal, or with TERM=dumb: blocks of plain text, sized by COLUMNS and LINES.
    """
    display = make_display(keys=True)
    with closing(TopPage(invocation.state_dir, operator(), display.keys and not once)) as page:
        if not once:
            return OperatedLoop(invocation.runtime_dir, display, page, interval_s).run()
        with invocation.connect() as daemon:
            page.heard(daemon.ask("status"))
        display.print(page.lines(display.size()))
    return 0
