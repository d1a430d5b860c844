"""The state of a pool: what it is, why, and who is told when it changes (log, hooks, consumer). Master only."""

from __future__ import annotations

from supervisor.link.consumer_state import ConnectionStatus
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import in_trouble
from supervisor.symptoms import Symptom

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
