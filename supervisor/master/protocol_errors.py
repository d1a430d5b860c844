"""Ends a child that has sent an invalid frame: no such frame, a value out of range. Master only.

Its next frames cannot be trusted either, and a guess may cost a message. Its exit record names the reason.
"""

from __future__ import annotations

import logging
import signal

from supervisor import posix
from supervisor.events import Event
from supervisor.logs import log
from supervisor.master.children import Child
from supervisor.master.leaving import mark
from supervisor.master.pool import Pool
from supervisor.master.records import NOT_UNDERSTOOD
from supervisor.scoreboard.words import Intent

_REASON_CHARACTERS = 500


def end(pool: Pool | None, child: Child, reason: str) -> None:
    """Kill this child, once. `pool`: None for a sidecar; `reason`: what was not understood, for log and exit record."""
    if child.intent is Intent.PROTOCOL_KILL:
        return
    what = f"{NOT_UNDERSTOOD}: {reason[:_REASON_CHARACTERS]}"
    log(
        Event.FRAME_REFUSED,
        f"{child.name} {what}; it is ended",
        level=logging.ERROR,
        pool=child.pool,
        slot=child.slot,
        pid=child.pid,
        reason=reason[:_REASON_CHARACTERS],
    )
    if pool is None:
        child.intent, child.requested_by = Intent.PROTOCOL_KILL, what
    else:
        mark(pool, child, Intent.PROTOCOL_KILL, what)
    posix.signal_process(child.pid, child.ticks, signal.SIGKILL)
