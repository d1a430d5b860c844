"""The state of a pool: what it is, why, and who is told when it changes (log, hooks, consumer). Master only."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from supervisor.link.consumer_state import ConnectionStatus
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.host.signals import cannot_be_ended
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import in_trouble
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.symptoms import Symptom
from supervisor.system.clock import rfc3339, wall_s

_EVENTS = {"degraded": Event.POOL_DEGRADED, "held": Event.POOL_HELD, "ok": Event.POOL_RECOVERED}
"""States that are reported; the others (starting, draining, ...) follow from commands."""

_CONNECTED = frozenset({"connected", "blocked"})


def pool_state(pool: Pool, stopping: bool) -> str:
    """The state of a pool in one word: `held` when it can run no message any more, `degraded` when a part of it is in
    trouble or no message arrives. `stopping`: whether the daemon stops."""
    if stopping or pool.leaving:
        return "stopping"
    if pool.consumer.held or not can_work(pool):
        return "held"
    if any(map(in_trouble, pool.specs)) or (pool.was_ready and cut_off(pool)) or _degrading(pool):
        return "degraded"
    if not (pool.was_ready or pool.ready):
        return "starting"
    return "ok" if pool.intake.paused is None else "paused"


def pool_why(pool: Pool) -> str:
    """Why a pool is in trouble; "" if it is not."""
    whys = [spec.why for spec in pool.specs if spec.held]
    whys += [cut_off(pool), *_degrading(pool), *(spec.why for spec in pool.specs if in_trouble(spec))]
    return next(filter(None, whys), "")


def can_work(pool: Pool) -> bool:
    """Whether a worker can run messages, now or soon: some worker is not held."""
    return not all(spec.held or (pool.forkserver.held and spec.child is None) for spec in pool.workers)


def symptoms(pool: Pool) -> list[Symptom]:
    """The symptoms of a pool that the master and its consumer have noticed."""
    snapshot = pool.consumer_channel.snapshot
    return [*pool.symptoms.present, *(snapshot.symptoms if snapshot else ())]


def _degrading(pool: Pool) -> list[str]:
    return [symptom.text for symptom in symptoms(pool) if symptom.degrades]


def cut_off(pool: Pool) -> str:
    """Why nothing can be consumed just now: no connection to the broker, a ledger that cannot be written; or ""."""
    snapshot = pool.consumer_channel.snapshot
    connection = snapshot.connection if snapshot else ConnectionStatus()
    return "" if connection.state in _CONNECTED else connection.why


def follow_intake(pool: Pool, now_s: float) -> None:
    """Tell the consumer whether to take messages. A consumer that drains is told nothing: it takes no more messages."""
    pool.intake.follow(pool.workers, can_work(pool))
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
            note_unkillable(pool, now_s)
            pool.note_ready()
            self.announce(pool, pool_state(pool, stopping=False))


def note_unkillable(pool: Pool, now_s: float) -> None:
    """Keep the pool's symptom about children that cannot be ended; `status` and the log have it."""
    children = (spec.child for spec in pool.specs if spec.child is not None)
    reasons = list(filter(None, (cannot_be_ended(child, now_s) for child in children)))
    if reasons:
        advice = "it is left alone until it ends by itself; its message is not run again before that"
        pool.symptoms.notice(Event.CHILD_UNKILLABLE, f"{'; '.join(reasons)}; {advice}", degrades=True)
    else:
        pool.symptoms.heal(Event.CHILD_UNKILLABLE)
