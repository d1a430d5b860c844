"""A start that failed: no process could be made for a seat. Master only; `restarts.py` decides."""

from __future__ import annotations

import logging

from supervisor.clock import monotonic_s
from supervisor.master.children import Seat
from supervisor.master.pool import Pool
from supervisor.master.restarts import decide_unborn

_logger = logging.getLogger("preforkd.master")


def stays_empty(pool: Pool, seat: Seat, reason: str) -> None:
    """Write down that this seat could not be filled, and when that is tried again."""
    decision = decide_unborn(seat, pool.intensity, pool.config, now_s := monotonic_s())
    assert decision.delay_s is not None  # it is still wanted
    seat.ordered, seat.why, seat.due_s = None, reason, now_s + decision.delay_s
    pool.holds += decision.hold
    _logger.error("%s cannot be started: %s; trying again in %.1f s", seat.name, reason, decision.delay_s)
