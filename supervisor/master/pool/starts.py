"""How the children of a pool are started: first frames, descriptors, orders. Master only; when it is due, others say.

Forkserver and consumer are programs of their own (`spawn.py`); workers are ordered from the forkserver, and their
consumer is told of each before it can say hello.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from supervisor.config.schema import Config
from supervisor.link import frames
from supervisor.master.pool import protocol_errors
from supervisor.master.pool.adoption import enter
from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.reports import CONSUMER_REPORTS, FORK_REPORTS, Reports
from supervisor.master.pool.spawn import Started, spawn
from supervisor.master.pool.wire import Wire
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor


def start(pool: Pool, spec: ChildSpec, reactor: Reactor) -> None:
    """Start the child that is wanted for this child spec. Raises StateError (no process, no descriptor, full disk)."""
    _STARTS[spec.kind](pool, spec, reactor)


def can_start(pool: Pool, spec: ChildSpec) -> bool:
    """Whether a child can be started: workers wait for the forkserver's import, other children for nothing."""
    return spec.kind is not Kind.WORKER or source(pool, spec).ready


def source(pool: Pool, spec: ChildSpec) -> ChildSpec:
    """The child spec of the forkserver that a worker is forked from."""
    candidate = pool.plan.candidate
    return candidate if candidate is not None and spec.slot == pool.plan.canary else pool.forkserver


def start_candidate(pool: Pool, spec: ChildSpec, config: Config, reactor: Reactor) -> None:
    """Start a forkserver with other settings than those in force. Raises StateError."""
    first = frames.StartForkserver(
        version=frames.VERSION,
        pool=config.pools[pool.name],
        log=config.log,
        pool_dir=str(pool.dir),
        link_path=str(pool.endpoints.link_path),
        master_pid=os.getpid(),
    )
    urls = (*pool.whole_config.broker.urls, *config.broker.urls)
    _start_service(pool, spec, reactor, first, pool.endpoints.readiness_write, frames.ForkReport, FORK_REPORTS, urls)


def _start_forkserver(pool: Pool, spec: ChildSpec, reactor: Reactor) -> None:
    start_candidate(pool, spec, pool.whole_config, reactor)


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
    )
    descriptor, urls = pool.endpoints.link.fileno(), pool.whole_config.broker.urls
    wire = _start_service(pool, spec, reactor, first, descriptor, frames.ConsumerReport, CONSUMER_REPORTS, urls)
    pool.consumer_channel.open(wire, pool.config.queue, takes)


def _alive(pool: Pool) -> list[frames.Incarnation]:
    """The workers that are not known to be dead: ours, the ordered ones, those of a former daemon."""
    generations = {spec.slot: spec.child.generation if spec.child else spec.ordered for spec in pool.workers}
    ours = [
        frames.Incarnation(slot, generation)
        for slot, generation in generations.items()
        if slot is not None and generation is not None
    ]
    return [*ours, *pool.foreign.values(), *pool.kept.workers]


def _start_service(
    pool: Pool,
    spec: ChildSpec,
    reactor: Reactor,
    first: frames.Frame,
    descriptor: int,
    receives: Any,
    reports: Reports,
    urls: Sequence[str],
) -> Wire:
    pool.board = pool.board.renewed()
    generation = pool.generations.next()
    started = spawn(spec.kind, first, [descriptor], urls)
    child = enter(pool, spec, started.pid, generation, monotonic_s())
    return join(child, started, receives, reactor, lambda frame: reports[type(frame)](pool, spec, frame))


def join(child: Child, started: Started, receives: Any, reactor: Reactor, hear: Callable[[Any], None]) -> Wire:
    """Open the channel to a child that was started; end the child if its first frame could not be sent.

    `hear` is called with each frame of the union `receives`.
    """
    wire = Wire(started.sock, receives, reactor, hear, partial(protocol_errors.end, child), started.unsent)
    child.connect(wire)
    if started.failure:
        protocol_errors.end_unstarted(child, started.failure)
    return wire


def _order_worker(pool: Pool, spec: ChildSpec, reactor: Reactor) -> None:
    forkserver = source(pool, spec).child
    assert spec.slot is not None and forkserver is not None and forkserver.wire is not None  # see can_start
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
    Kind.FORKSERVER: _start_forkserver,
    Kind.CONSUMER: _start_consumer,
}
