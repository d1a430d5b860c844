"""Pools that leave while the daemon goes on: stopped as at the daemon's stop, then closed. Master only."""

from __future__ import annotations

from supervisor.master.pool.children import Children
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.pools import Pools
from supervisor.master.stop.phases import Phase, Stop
from supervisor.master.stop.stopping import Stopping
from supervisor.system.clock import monotonic_s


class Removals:
    """A duty: pools that a reload has removed from the configuration, or whose code has failed its trial."""

    does = "remove pools"

    def __init__(self, pools: Pools, children: Children) -> None:
        self._pools = pools
        self._children = children
        self._under_way: list[tuple[Pool, Stopping]] = []

    @property
    def due_s(self) -> float:
        """When `turn` is needed next (CLOCK_MONOTONIC)."""
        return min((stopping.due_s for _pool, stopping in self._under_way), default=float("inf"))

    def begin(self, pool: Pool, requested_by: str, at_once: bool = False) -> None:
        """Stop this pool. `requested_by`: for exit records; `at_once`: without a drain, when it has run no message."""
        pool.leave()
        stop = Stop(requested_by, monotonic_s(), self._pools.config.daemon.stop_timeout_s, now=at_once)
        self._under_way.append((pool, Stopping(stop, [pool], self._children)))

    def turn(self, now_s: float) -> None:
        """Go on with each stop; close the pools whose children have ended."""
        for removal in list(self._under_way):
            pool, stopping = removal
            stopping.proceed(now_s)
            if stopping.stop.phase is Phase.GONE:
                self._under_way.remove(removal)
                self._pools.remove(pool)
