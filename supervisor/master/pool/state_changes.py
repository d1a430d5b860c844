"""Tells log, hooks and consumer when a pool's state or intake changes: degraded, held, ok again. Master only."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.control import status
from supervisor.master.host.signalling import note_unkillable
from supervisor.master.pool.pool import Pool
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.system.clock import rfc3339, wall_s

_EVENTS = {"degraded": Event.POOL_DEGRADED, "held": Event.POOL_HELD, "ok": Event.POOL_RECOVERED}
"""States that are reported; the others (starting, draining, ...) follow from commands."""


def follow_intake(pool: Pool, now_s: float) -> None:
    """Tell the consumer whether to take messages. A consumer that drains is told nothing: it takes no more messages."""
    pool.intake.follow(pool.workers, status.can_work(pool))
    if not (pool.leaving or pool.plan.consumer_leaves):
        pool.consumer_channel.take_messages(pool.intake.wanted)


class PoolStates:
    """The last state of each pool that was told."""

    does = "announce the states of pools"
    due_s = float("inf")

    def __init__(self, pools: Mapping[str, Pool], sidecars: Sidecars) -> None:
        self._pools = pools
        self._sidecars = sidecars
        self._told: dict[str, str] = {}

    def announce(self, pool: Pool, state: str) -> None:
        """Tell `state` (of `status.pool_state`) if it is another than before; the first `ok` needs no telling. A pool
        whose consumer has just begun has not recovered: the broker may refuse the consumer again."""
        event = _EVENTS.get(state)
        if event is Event.POOL_RECOVERED and not pool.consumer.ready:
            return
        former, self._told[pool.name] = self._told.get(pool.name, "starting"), state
        if state == former or event is None or (event is Event.POOL_RECOVERED and former == "starting"):
            return
        level, why = logging.INFO if event is Event.POOL_RECOVERED else logging.ERROR, status.pool_why(pool)
        log(event, f"pool {pool.name} is {state}", level=level, pool=pool.name, why=why)
        self._sidecars.tell("hold", {"event": str(event), "at": rfc3339(wall_s()), "pool": pool.name, "why": why})

    def turn(self, now_s: float) -> None:
        """Announce the states of all pools, and forget the pools that were removed."""
        self._told = {name: state for name, state in self._told.items() if name in self._pools}
        for pool in self._pools.values():
            note_unkillable(pool, now_s)
            pool.note_ready()
            self.announce(pool, status.pool_state(pool, stopping=False))
