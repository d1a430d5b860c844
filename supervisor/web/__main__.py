"""`python -P -m supervisor.web FD`: started by the master only; FD is this end of their socketpair.

Sets itself up and serves until the master sends Quit or is gone. The modules of the extra are imported once their
absence can be reported to the master.
"""

from __future__ import annotations

import asyncio
import os
from typing import NoReturn

from supervisor.errors import StateError
from supervisor.extras import install_hint
from supervisor.link.channel import Channel
from supervisor.link.child import live, settle_in
from supervisor.link.frames import SidecarOrder, StartSidecar
from supervisor.logs import structured


def main() -> NoReturn:
    """Run the web child."""
    live(StartSidecar, 0, SidecarOrder, _show)


def _show(start: StartSidecar, master: Channel[SidecarOrder], descriptors: list[int]) -> int:
    settle_in(start, "web")
    structured.hide_passwords(start.broker.urls)
    try:
        from supervisor.web.server import serve
    except ImportError as error:
        raise StateError(
            f"[web] listen needs an extra (there is no module {error.name}): {install_hint('web')}"
        ) from error
    asyncio.run(serve(start, master))
    return os.EX_OK


if __name__ == "__main__":
    main()
