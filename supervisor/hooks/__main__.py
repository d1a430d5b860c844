"""`python -P -m supervisor.hooks FD`: started by the master only; FD is this end of their socketpair."""

from __future__ import annotations

import os
from types import FrameType

from supervisor.hooks.loop import Hooks
from supervisor.link.channel import Channel
from supervisor.link.child import live, settle_in
from supervisor.link.frames import SidecarOrder, StartSidecar
from supervisor.logs import structured
from supervisor.logs.redaction import secrets_of
from supervisor.system import descent
from supervisor.system.descriptors import restore_limit


def tell(start: StartSidecar, master: Channel[SidecarOrder], descriptors: list[int]) -> int:
    """Run until the master sends Quit, and return the exit status. `descriptors`: none are passed."""
    settle_in(start, "hooks", _the_master_decides)
    restore_limit(os.environ)
    descent.mark("")  # orphaned descendants of its commands are ended like those of handlers
    for secret in secrets_of(start.hooks.webhook):
        structured.add_secret(secret)
    Hooks(start, master).run()
    return os.EX_OK


def _the_master_decides(number: int, frame: FrameType | None) -> None:
    """Ignore a signal to the whole group: the queue is emptied first. SIG_IGN would be inherited by the commands."""


if __name__ == "__main__":
    live(StartSidecar, 0, SidecarOrder, tell)
