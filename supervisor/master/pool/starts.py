"""Starts children that are wanted, missing and past their back-off: first frames, descriptors, orders. Master only.

Forkserver and consumer are programs of their own (`spawn.py`); workers are ordered from the forkserver, and their
consumer is told of each before it can say hello.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from supervisor.config.schema import Config
from supervisor.errors import StateError
from supervisor.link import frames
from supervisor.master.pool.adoption import enter
from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.master.pool.exit_records import NO_FIRST_FRAME
from supervisor.master.pool.owner import SelfStarting, stays_empty
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.reports import CONSUMER_REPORTS, FORK_REPORTS, Reports, end_child, end_misunderstood
from supervisor.master.pool.spawn import Started, spawn
from supervisor.master.pool.wire import Wire
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor


def source(pool: Pool, spec: ChildSpec) -> ChildSpec:
    """The child spec of the forkserver that a worker is forked from."""
    candidate = pool.plan.candidate
    return candidate if candidate is not None and spec.slot == pool.plan.canary else pool.forkserver


def start_forkserver(pool: Pool, spec: ChildSpec, config: Config, reactor: Reactor) -> None:
    """Start a forkserver; `config`: perhaps others than the settings in force. Raises StateError."""
    first = frames.StartForkserver(
        version=frames.VERSION,
        pool=config.pools[pool.name],
        log=config.log,
        pool_dir=str(pool.dir),
        link_path=str(pool.endpoints.link_path),
        master_pid=os.getpid(),
    )
    configs, descriptor = (pool.whole_config, config), pool.endpoints.readiness_write
    _start_service(pool, spec, reactor, first, descriptor, frames.ForkReport, FORK_REPORTS, configs)


def _start_consumer(pool: Pool, spec: ChildSpec, reactor: Reactor) -> None:
    first = frames.StartConsumer(
        version=frames.VERSION,
        pool=pool.config,
        broker=pool.whole_config.broker,
        ledger=pool.whole_config.ledger,
        log=pool.whole_config.log,
        state_dir=pool.whole_config.daemon.state_dir,
        pool_dir=str(pool.dir),
        link_path=str(pool.endpoints.link_path),
        master_pid=os.getpid(),
        alive=_alive(pool),
        paused=not (takes := pool.intake.wanted),
        fleet=pool.whole_config.fleet,
    )
    descriptor, configs = pool.endpoints.link.fileno(), (pool.whole_config,)
    wire = _start_service(pool, spec, reactor, first, descriptor, frames.ConsumerReport, CONSUMER_REPORTS, configs)
    pool.consumer_channel.open(wire, pool.config.queue, takes)


def _alive(pool: Pool) -> list[frames.Incarnation]:
    """The workers that are not known to be dead: ours, the ordered ones, those of a former daemon."""
    known = [(spec.slot, spec.child.generation if spec.child else spec.ordered) for spec in pool.workers]
    ours = [frames.Incarnation(slot, number) for slot, number in known if slot is not None and number is not None]
    return [*ours, *pool.surviving.values(), *pool.delayed_notices.workers]


def _start_service(
    pool: Pool,
    spec: ChildSpec,
    reactor: Reactor,
    first: frames.Frame,
    descriptor: int,
    receives: Any,
    reports: Reports,
    configs: Sequence[Config],
) -> Wire:
    pool.board = pool.board.renewed()
    generation = pool.generations.next()
    started = spawn(spec.kind, first, [descriptor], configs)
    child = enter(pool, spec, started.pid, generation, monotonic_s())
    return join(child, started, receives, reactor, lambda frame: reports[type(frame)](pool, spec, frame))


def join(child: Child, started: Started, receives: Any, reactor: Reactor, hear: Callable[[Any], None]) -> Wire:
    """Open the channel to a child that was started; end the child if its first frame could not be sent.

    `hear` is called with each frame of the union `receives`.
    """
    wire = Wire(started.sock, receives, reactor, hear, partial(end_misunderstood, child), started.unsent)
    child.connect(wire)
    if started.failure:
        end_child(child, f"{NO_FIRST_FRAME}: {started.failure}")  # it would wait for ever
    return wire


def _order_worker(pool: Pool, spec: ChildSpec, reactor: Reactor) -> None:
    forkserver = source(pool, spec).child
    assert spec.slot is not None and forkserver is not None and forkserver.wire is not None  # see _may_start
    pool.slots.mend(spec.slot)
    # fail-point: master.unordered: a worker is about to be ordered
    spec.order(generation := pool.generations.next(), forkserver.generation)
    pool.consumer_channel.send(frames.Spawned(frames.Incarnation(spec.slot, generation)))
    pool.consumer_channel.flush()
    # fail-point: master.consumer-told: the consumer awaits a worker that no forkserver was told to fork
    forkserver.send(frames.Fork(spec.slot, generation))
    forkserver.wire.flush()


_STARTS: dict[Kind, Callable[[Pool, ChildSpec, Reactor], None]] = {
    Kind.WORKER: _order_worker,
    Kind.FORKSERVER: lambda pool, spec, reactor: start_forkserver(pool, spec, pool.whole_config, reactor),
    Kind.CONSUMER: _start_consumer,
}


class Spawner:
    """Starts children. `pools` is the master's own table; `others`: the owners of child specs that are no pools."""

    does = "start what is due"

    def __init__(self, pools: Mapping[str, Pool], others: Collection[SelfStarting], reactor: Reactor) -> None:
        self._pools = pools
        self._others = others
        self._reactor = reactor

    @property
    def due_s(self) -> float:
        """When a child is to be started next (CLOCK_MONOTONIC)."""
        return min((due_s for _owner, _spec, due_s in self._places()), default=float("inf"))

    def turn(self, now_s: float) -> None:
        """Start all children that are due."""
        for owner, spec, due_s in self._places():
            if now_s >= due_s:
                self._start(owner, spec)

    def replace_workers(self) -> None:
        """Order the workers that are due now. A death is logged after it: the log can wait, a replacement cannot."""
        now_s = monotonic_s()
        for pool in self._pools.values():
            waiting = (spec for spec in pool.workers if spec.slot != pool.plan.canary)  # a trial that failed is over
            due = [spec for spec in waiting if spec.due_s is not None and now_s >= spec.due_s]
            for spec in filter(partial(self._may_start, pool), due):
                self._start(pool, spec)

    def _places(self) -> Iterator[tuple[Pool | SelfStarting, ChildSpec, float]]:
        """The child specs that have no child and may have one now, with their owners and due times."""
        owners: list[Pool | SelfStarting] = [*self._pools.values(), *self._others]
        for owner in owners:
            for spec in owner.specs:
                if spec.due_s is not None and self._may_start(owner, spec):
                    yield owner, spec, spec.due_s

    def _may_start(self, owner: Pool | SelfStarting, spec: ChildSpec) -> bool:
        if not (spec.empty and owner.wants(spec)):
            return False
        if isinstance(owner, Pool) and spec.kind is Kind.WORKER:
            return (
                spec.slot not in (*owner.surviving, *owner.delayed_notices) and source(owner, spec).ready
            )  # it has imported
        return not isinstance(owner, Pool) or spec is not owner.consumer or self._queue_is_free(owner)

    def _queue_is_free(self, pool: Pool) -> bool:
        """Whether no consumer of another pool is still there that has this one's queue, since before a reload."""
        others = (other for other in self._pools.values() if other is not pool and other.consumer.child is not None)
        return all(other.consumer_channel.queue != pool.config.queue for other in others)

    def _start(self, owner: Pool | SelfStarting, spec: ChildSpec) -> None:
        try:
            if isinstance(owner, Pool):
                _STARTS[spec.kind](owner, spec, self._reactor)
            else:
                owner.start()
        except (StateError, OSError) as error:
            stays_empty(owner, spec, str(error))
