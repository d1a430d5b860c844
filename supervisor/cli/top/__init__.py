"""`preforkd top`: a live view of a running daemon in a terminal of any size, with keys. Never reads logs.

Pure: `view.py` (what is shown), `columns.py`, `frame.py` (how and where), `keys.py` (what a key does).
Acting: `loop.py` asks the daemon, `pages.py` holds what is shown, `display.py` owns the terminal. All but the view are
loaded late: rich costs more time than most commands take.
"""

from __future__ import annotations

from contextlib import closing

import click

from supervisor.cli.command import command
from supervisor.cli.invocation import SECONDS, Invocation, pass_invocation
from supervisor.cli.pools import operator


@command(
    "top",
    ("Watch; ? shows the keys, q leaves", "preforkd top"),
    ("One screen, for a script", "preforkd top --once"),
)
@click.option("--interval", "interval_s", type=SECONDS, default="1s", help="Refresh this often (1s).")
@click.option("--once", is_flag=True, help="Print one screen, without rates, and exit; for scripts.")
@pass_invocation
def top_command(invocation: Invocation, interval_s: float, once: bool) -> int:
    """Watch pools, workers and exits live; pause, scale and reload with keys (? lists them).

    Without a terminal, or with TERM=dumb: blocks of plain text, sized by COLUMNS and LINES.
    """
    from supervisor.cli.top.display import Display  # loaded late: see the head of this file
    from supervisor.cli.top.loop import Loop
    from supervisor.cli.top.pages import TopPage

    display = Display(keys=not once)
    with closing(TopPage(invocation.state_dir, operator(), display.keys)) as page:
        if not once:
            return Loop(invocation.runtime_dir, display, page, interval_s).run()
        with invocation.connect() as daemon:
            page.heard(daemon.ask("status"))
        display.print(page.draw(display.size()))
    return 0
