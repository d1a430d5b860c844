"""A start that failed: no process could be made for a child spec. Master only; `restarts.py` decides."""

from __future__ import annotations

import logging

from supervisor.master.pool.children import ChildSpec
from supervisor.master.pool.owner import Owner
from supervisor.master.pool.restarts import decide_unborn
from supervisor.system.clock import monotonic_s

_logger = logging.getLogger("preforkd.master")


def stays_empty(owner: Owner, spec: ChildSpec, reason: str) -> None:
    """Write down that no child could be started for `spec`, and when that is tried again."""
    was_held = spec.held
    decision = decide_unborn(spec, owner.account.intensity, owner.policy, now_s := monotonic_s())
    assert decision.delay_s is not None  # it is still wanted
    spec.not_started(now_s + decision.delay_s, reason)
    if decision.hold:
        owner.account.held(spec, newly=not was_held)
    _logger.error("%s cannot be started: %s; trying again in %.1f s", spec.name, reason, decision.delay_s)
