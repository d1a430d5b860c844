"""Tells when the state of a pool changes: the log, and the hooks. Master only."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.signalling import cannot_be_ended
from supervisor.master.pool.state import pool_state, pool_why
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.system.clock import rfc3339, wall_s

_EVENTS = {"degraded": Event.POOL_DEGRADED, "held": Event.POOL_HELD, "ok": Event.POOL_RECOVERED}
"""States that are reported; the others (starting, draining, ...) follow from commands."""


class PoolStates:
    """The last state of each pool that was told."""

    does = "announce the states of pools"
    due_s = float("inf")

    def __init__(self, pools: Mapping[str, Pool], sidecars: Sidecars) -> None:
        self._pools = pools
        self._sidecars = sidecars
        self._told: dict[str, str] = {}

    def announce(self, pool: Pool, state: str) -> None:
        """Tell `state` (of `pool_state`) if it is another than before; the first `ok` needs no telling. A pool
        whose consumer has just begun has not recovered: the broker may refuse the consumer again."""
        event = _EVENTS.get(state)
        if event is Event.POOL_RECOVERED and not pool.consumer.ready:
            return
        former, self._told[pool.name] = self._told.get(pool.name, "starting"), state
        if state == former or event is None or (event is Event.POOL_RECOVERED and former == "starting"):
            return
        level, why = logging.INFO if event is Event.POOL_RECOVERED else logging.ERROR, pool_why(pool)
        log(event, f"pool {pool.name} is {state}", level=level, pool=pool.name, why=why)
        self._sidecars.tell("hold", {"event": str(event), "at": rfc3339(wall_s()), "pool": pool.name, "why": why})

    def turn(self, now_s: float) -> None:
        """Announce the states of all pools, and forget the pools that were removed."""
        self._told = {name: state for name, state in self._told.items() if name in self._pools}
        for pool in self._pools.values():
            note_unkillable_children(pool, now_s)
            pool.note_ready()
            self.announce(pool, pool_state(pool, stopping=False))


def note_unkillable_children(pool: Pool, now_s: float) -> None:
    """Keep the pool's symptom about children that cannot be ended; `status` and the log have it."""
    children = (spec.child for spec in pool.specs if spec.child is not None)
    reasons = list(filter(None, (cannot_be_ended(child, now_s) for child in children)))
    if reasons:
        advice = "it is left alone until it ends by itself; its message is not run again before that"
        pool.symptoms.notice(Event.CHILD_UNKILLABLE, f"{'; '.join(reasons)}; {advice}", degrades=True)
    else:
        pool.symptoms.heal(Event.CHILD_UNKILLABLE)
