"""Ends a child whose channel is of no use: it has sent an invalid frame, or was never sent its first. Master only.

After a frame that does not exist, or a value out of range, its next frames cannot be trusted either, and a guess may
cost a message. Without its first frame it would wait for ever. Its exit record names the reason.
"""

from __future__ import annotations

import logging
import signal

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.exits.records import NO_FIRST_FRAME, NOT_UNDERSTOOD
from supervisor.master.host.signals import send
from supervisor.master.pool.children import Child
from supervisor.scoreboard.words import Intent
from supervisor.system.clock import monotonic_s

_REASON_CHARACTERS = 500


def end(child: Child, reason: str) -> None:
    """Kill this child, once. `reason`: what was not understood, for log and exit record."""
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
    _end(child, what)


def end_unstarted(child: Child, failure: str) -> None:
    """Kill this child, which was just started. `failure`: why its first frame could not be sent."""
    _end(child, f"{NO_FIRST_FRAME}: {failure}")


def _end(child: Child, what: str) -> None:
    child.mark(Intent.PROTOCOL_KILL, what)
    send(child, signal.SIGKILL, monotonic_s())
