"""A start that failed: no process could be made for a seat. Master only; `restarts.py` decides."""

from __future__ import annotations

import logging

from supervisor.master.pool.children import ChildSpec
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import decide_unborn
from supervisor.system.clock import monotonic_s

_logger = logging.getLogger("preforkd.master")


def stays_empty(pool: Pool, spec: ChildSpec, reason: str) -> None:
    """Write down that this seat could not be filled, and when that is tried again."""
    decision = decide_unborn(spec, pool.intensity, pool.config, now_s := monotonic_s())
    assert decision.delay_s is not None  # it is still wanted
    spec.not_started(now_s + decision.delay_s, reason)
    pool.holds += decision.hold
    _logger.error("%s cannot be started: %s; trying again in %.1f s", spec.name, reason, decision.delay_s)
