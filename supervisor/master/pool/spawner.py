"""Whose turn it is to be started: seats of pools that are empty, wanted and due. Master only; how is in `starts.py`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from supervisor.errors import StateError
from supervisor.master.pool.children import ChildSpec
from supervisor.master.pool.failed_starts import stays_empty
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.starts import can_start, start
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor


class Spawner:
    """Fills seats. `pools` is the master's own table."""

    does = "start what is due"

    def __init__(self, pools: Mapping[str, Pool], reactor: Reactor) -> None:
        self._pools = pools
        self._reactor = reactor

    @property
    def due_s(self) -> float:
        """When a child is to be started next (CLOCK_MONOTONIC)."""
        places = ((pool, spec) for pool in self._pools.values() for spec in pool.specs)
        due = (spec.due_s for pool, spec in places if spec.due_s is not None and self._may_start(pool, spec))
        return min(due, default=float("inf"))

    def turn(self, now_s: float) -> None:
        """Start all children that are due."""
        for pool in self._pools.values():
            for spec in pool.specs:
                if spec.due_s is not None and now_s >= spec.due_s and self._may_start(pool, spec):
                    self._start(pool, spec)

    def replace_workers(self) -> None:
        """Order the workers that are due now, before anything else is done about a death."""
        now_s = monotonic_s()
        for pool in self._pools.values():
            waiting = (spec for spec in pool.workers if spec.slot != pool.plan.canary)  # a trial that failed is over
            due = [spec for spec in waiting if spec.due_s is not None and now_s >= spec.due_s]
            for spec in filter(partial(self._may_start, pool), due):
                self._start(pool, spec)

    def _may_start(self, pool: Pool, spec: ChildSpec) -> bool:
        if not (spec.empty and pool.wants(spec) and can_start(pool, spec)) or spec.slot in (*pool.foreign, *pool.kept):
            return False
        return spec is not pool.consumer or self._queue_is_free(pool)

    def _queue_is_free(self, pool: Pool) -> bool:
        """Whether no consumer of another pool is still there that has this one's queue, since before a reload."""
        others = (other for other in self._pools.values() if other is not pool and other.consumer.child is not None)
        return all(other.consumes != pool.config.queue for other in others)

    def _start(self, pool: Pool, spec: ChildSpec) -> None:
        try:
            start(pool, spec, self._reactor)
        except (StateError, OSError) as error:
            stays_empty(pool, spec, str(error))
