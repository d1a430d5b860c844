"""What `status` shows of the daemon (docs/control-protocol.md), and what systemd is told. Master only.

Read from the books of all duties and from the slots, changing nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

import supervisor
from supervisor.control.results import (
    ConsumerStatus,
    ExitCount,
    LogStatus,
    PoolStatus,
    ServiceStatus,
    Status,
    SymptomStatus,
    WorkerStatus,
)
from supervisor.link.consumer_state import ConnectionStatus, Measurements, QueueStatus
from supervisor.link.frames import Snapshot
from supervisor.logs.events import Cause
from supervisor.logs.pipe import own_reader
from supervisor.logs.target import PLAIN
from supervisor.master.control.systemd import PoolFacts, StatusNotifier
from supervisor.master.exits.history import History
from supervisor.master.pool.children import ChildSpec, Kind
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.pools import Pools
from supervisor.master.pool.state import pool_state, pool_why, symptoms
from supervisor.master.reload.reload import Reloads
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.master.startup import DaemonStart
from supervisor.master.stop.stopping import DaemonStop
from supervisor.scoreboard.board import CONSUMER
from supervisor.scoreboard.words import Intent, Running
from supervisor.system import posix
from supervisor.system.clock import monotonic_s, rfc3339, wall_s

_CONSUMER_STATES = {"stopping": "draining", "paused": "paused"}
_COUNTERS = (
    *("delivered", "done", "failed", "retried", "dead", "parked"),
    *("saved", "gone", "duplicate", "returned", "dropped", "published"),
)

_CRASHES = frozenset({Cause.CRASH, Cause.KILLED, Cause.OUT_OF_MEMORY, Cause.MEMORY_LIMIT, Cause.UNEXPECTED_EXIT})


@dataclass
class DaemonStatus:
    """The status of the daemon: the status object, and a duty that tells systemd as often as `notifier` wants."""

    does = "tell systemd"

    pools: Pools
    sidecars: Sidecars
    history: History
    startup: DaemonStart
    reloads: Reloads
    stop: DaemonStop
    notifier: StatusNotifier | None

    @property
    def due_s(self) -> float:
        """When the next notification is due (CLOCK_MONOTONIC)."""
        return float("inf") if self.notifier is None else self.notifier.due_s

    def turn(self, now_s: float) -> None:
        """Notify systemd, if that is due or the daemon's state has changed."""
        if self.notifier is not None and self.notifier.is_due(state := self.state, now_s):
            exits, stopping = self.history.counts(), self.stop.under_way
            facts = [pool_facts(pool, pool_state(pool, stopping), exits) for pool in self.pools.values()]
            self.notifier.tell(state, facts, self.stop.current, now_s)

    @property
    def state(self) -> str:
        """The one word for the daemon."""
        if self.stop.under_way:
            return "stopping"
        if not self.startup.ready:
            return "starting"
        return "reloading" if self.reloads.under_way else "running"

    def show(self) -> Status:
        """The status object."""
        now_s, config = monotonic_s(), self.pools.config
        return Status(
            version=supervisor.__version__,
            pid=os.getpid(),
            state=self.state,
            started_at=rfc3339(self.startup.began_at_s),
            uptime_s=round(now_s - self.startup.began_s, 3),
            **posix.usage(os.getpid())._asdict(),
            config=config.source,
            state_dir=config.daemon.state_dir,
            runtime_dir=config.daemon.runtime_dir,
            reload=self.reloads.status(),
            pools={
                name: pool_status(pool, pool_state(pool, self.stop.under_way), now_s)
                for name, pool in self.pools.items()
            },
            sidecars=self.sidecars.status(),
            exits=self.history.counts(),
            log=LogStatus(file=config.log.file, reader=own_reader() or PLAIN),
        )


def pool_status(pool: Pool, state: str, now_s: float) -> PoolStatus:
    """One entry of `pools`. `state`: of `pool_state`; `now_s`: CLOCK_MONOTONIC."""
    snapshot, present = pool.consumer_channel.snapshot, symptoms(pool)
    return PoolStatus(
        state=state,
        why=pool_why(pool),
        queue=pool.config.queue,
        wanted=pool.config.workers,
        configured=pool.whole_config.pools[pool.name].workers,
        paused=pool.intake.paused,
        workers=[_worker(pool, spec, now_s) for spec in pool.workers],
        forkserver=_service(pool.forkserver, "importing", "ready"),
        consumer=_consumer(pool, state, [symptom.text for symptom in present]),
        symptoms=[
            SymptomStatus(name=each.name, text=each.text, degrades=each.degrades, since=rfc3339(each.since))
            for each in present
        ],
        depth=snapshot.queue if snapshot else QueueStatus(),
        counters={**dict.fromkeys(_COUNTERS, 0), **(snapshot.counters if snapshot else {})},
        restarts={str(kind): count for kind, count in pool.account.restarts.items()},
        holds=pool.holds,
        measures=snapshot.measures if snapshot else Measurements(),
    )


def _consumer(pool: Pool, state: str, notes: list[str]) -> ConsumerStatus:
    snapshot, at_s = pool.consumer_channel.snapshot, wall_s()
    ready = _CONSUMER_STATES.get(state, "consuming" if pool.consumer_channel.takes else "paused")
    return ConsumerStatus(
        **msgspec.structs.asdict(_service(pool.consumer, "starting", ready)),
        connection=_connection(snapshot, at_s),
        in_flight=snapshot.in_flight if snapshot else 0,
        notes=notes,
        at=rfc3339(at_s) if snapshot else "",
    )


def _connection(snapshot: Snapshot | None, at_s: float) -> ConnectionStatus:
    """A consumer's connection now; the snapshot is as old as the consumer's last report."""
    if snapshot is None:
        return ConnectionStatus()
    since_s = snapshot.connection.since_s + max(0.0, at_s - snapshot.at)
    return msgspec.structs.replace(snapshot.connection, since_s=round(since_s, 3))


def pool_facts(pool: Pool, state: str, exits: Iterable[ExitCount]) -> PoolFacts:
    """What systemd is told of a pool. `state`: of `pool_state`; `exits`: as in `status`, counted over the life of the
    state directory."""
    ends = [row for row in exits if (row.pool, row.kind) == (pool.name, Kind.WORKER)]
    snapshot = pool.consumer_channel.snapshot
    staffed = [spec for spec in pool.workers if spec.ready]
    return PoolFacts(
        name=pool.name,
        state=state,
        why=pool_why(pool),
        manned=pool.manned,
        consuming=pool.consumer.ready,
        ready_workers=len(staffed),
        workers=pool.config.workers,
        busy=sum(pool.slots[spec.slot].running() is not None for spec in staffed if spec.slot is not None),
        done=snapshot.counters.get("done", 0) if snapshot else 0,
        crashes=sum(row.count for row in ends if row.cause in _CRASHES),
        timeouts=sum(row.count for row in ends if row.cause == Cause.TIMEOUT),
        consumer_alive=pool.consumer.child is not None,
        beat_s=pool.board.beat_s(CONSUMER),
    )


def _service(spec: ChildSpec, starting: str, ready: str) -> ServiceStatus:
    state = (ready if spec.ready else starting) if spec.child else _absent(spec)
    pid = spec.child.pid if spec.child else None
    return ServiceStatus(pid=pid, state=state, restarts=spec.restarts, why=spec.why, **posix.usage(pid)._asdict())


def _absent(spec: ChildSpec) -> str:
    if spec.held:
        return "held"
    return "stopped" if spec.due_s is None else "backoff"


def _worker(pool: Pool, spec: ChildSpec, now_s: float) -> WorkerStatus:
    assert spec.slot is not None  # a worker has one
    child, slot = spec.child, pool.slots[spec.slot]
    running = slot.running() if child else None
    used = posix.usage(child.pid if child else None)
    return WorkerStatus(
        name=spec.name,
        slot=spec.slot,
        pid=child.pid if child else None,
        generation=child.generation if child else spec.ordered,
        state=_worker_state(pool, spec, running),
        message_id=running.message_id if running else "",
        attempt=running.run.attempt if running else 0,
        elapsed_s=round(now_s - running.started_s, 3) if running else 0.0,
        limit_s=round(running.limit_s, 3) if running else 0.0,
        limit_source=running.source.name.lower() if running else "pool",
        handled=slot.handled if child else 0,
        rss_bytes=used.rss_bytes,
        cpu_s=used.cpu_s,
        restarts=spec.restarts,
        restart_in_s=max(0.0, round(spec.due_s - now_s, 3)) if not child and spec.due_s else None,
    )


def _worker_state(pool: Pool, spec: ChildSpec, running: Running | None) -> str:
    assert spec.slot is not None  # a worker has one
    child, slot = spec.child, pool.slots[spec.slot]
    if child is None:
        return "booting" if spec.ordered is not None or spec.slot in pool.surviving else _absent(spec)
    if child.intent is not Intent.NONE or slot.leaving(child.generation) is not None:
        return "leaving"
    if running is not None:
        return "publishing" if running.publishing else "running"
    return "idle" if spec.ready else "booting"
