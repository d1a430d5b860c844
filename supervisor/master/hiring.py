"""Whose turn it is to be started: seats of pools that are empty, wanted and due. Master only; how is in `starts.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from supervisor.clock import monotonic_s
from supervisor.errors import StateError
from supervisor.master.children import Seat
from supervisor.master.pool import Pool
from supervisor.master.starts import can_start, start
from supervisor.master.vacancies import stays_empty
from supervisor.reactor import Reactor


class Hiring:
    """Fills seats. `pools` is the master's own table."""

    def __init__(self, pools: Mapping[str, Pool], reactor: Reactor) -> None:
        self._pools = pools
        self._reactor = reactor

    def due_times(self) -> Iterator[float]:
        """When somebody is to be started next (CLOCK_MONOTONIC)."""
        for pool in self._pools.values():
            yield from (seat.due_s for seat in pool.seats if seat.due_s is not None and self._may_start(pool, seat))

    def start_what_is_due(self, now_s: float) -> None:
        """Start everybody whose time has come."""
        for pool in self._pools.values():
            for seat in pool.seats:
                if seat.due_s is not None and now_s >= seat.due_s and self._may_start(pool, seat):
                    self._start(pool, seat)

    def replace_workers(self) -> None:
        """Order the workers that are due now, before anything else is done about a death."""
        now_s = monotonic_s()
        for pool in self._pools.values():
            waiting = (seat for seat in pool.workers if seat.slot != pool.probe)  # a trial that failed is over
            due = [seat for seat in waiting if seat.due_s is not None and now_s >= seat.due_s]
            for seat in filter(partial(self._may_start, pool), due):
                self._start(pool, seat)

    def _may_start(self, pool: Pool, seat: Seat) -> bool:
        if not (seat.empty and pool.wants(seat) and can_start(pool, seat)) or seat.slot in (*pool.foreign, *pool.kept):
            return False
        return seat is not pool.consumer or self._queue_is_free(pool)

    def _queue_is_free(self, pool: Pool) -> bool:
        """Whether no consumer of another pool is still there that has this one's queue, since before a reload."""
        others = (other for other in self._pools.values() if other is not pool and other.consumer.child is not None)
        return all(other.consumes != pool.config.queue for other in others)

    def _start(self, pool: Pool, seat: Seat) -> None:
        try:
            start(pool, seat, self._reactor)
        except (StateError, OSError) as error:
            stays_empty(pool, seat, str(error))
