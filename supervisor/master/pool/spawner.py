"""Starts children that are wanted, missing and past their back-off. Master only; how is in `starts.py`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial

from supervisor.errors import StateError
from supervisor.master.pool.children import ChildSpec
from supervisor.master.pool.failed_starts import stays_empty
from supervisor.master.pool.owner import SelfStarting
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.starts import can_start, start
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor


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
        """Order the workers that are due now, before anything else is done about a death."""
        now_s = monotonic_s()
        for pool in self._pools.values():
            waiting = (spec for spec in pool.workers if spec.slot != pool.plan.canary)  # a trial that failed is over
            due = [spec for spec in waiting if spec.due_s is not None and now_s >= spec.due_s]
            for spec in filter(partial(self._may_start, pool), due):
                self._start(pool, spec)

    def _places(self) -> Iterator[tuple[Pool | SelfStarting, ChildSpec, float]]:
        """The child specs that have no child and may have one now, with their owners and due times."""
        for pool in self._pools.values():
            for spec in pool.specs:
                if spec.due_s is not None and self._may_start(pool, spec):
                    yield pool, spec, spec.due_s
        for other in self._others:
            if other.spec.due_s is not None and other.spec.empty and other.wants(other.spec):
                yield other, other.spec, other.spec.due_s

    def _may_start(self, pool: Pool, spec: ChildSpec) -> bool:
        if not (spec.empty and pool.wants(spec) and can_start(pool, spec)) or spec.slot in (*pool.foreign, *pool.kept):
            return False
        return spec is not pool.consumer or self._queue_is_free(pool)

    def _queue_is_free(self, pool: Pool) -> bool:
        """Whether no consumer of another pool is still there that has this one's queue, since before a reload."""
        others = (other for other in self._pools.values() if other is not pool and other.consumer.child is not None)
        return all(other.consumer_channel.queue != pool.config.queue for other in others)

    def _start(self, owner: Pool | SelfStarting, spec: ChildSpec) -> None:
        try:
            if isinstance(owner, Pool):
                start(owner, spec, self._reactor)
            else:
                owner.start()
        except (StateError, OSError) as error:
            stays_empty(owner, spec, str(error))
