"""Whose turn it is to be started: seats of pools that are empty, wanted and due. Master only; how is in `starts.py`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial

from supervisor.clock import monotonic_s
from supervisor.errors import StateError
from supervisor.master.children import Seat
from supervisor.master.pool import Pool
from supervisor.master.restarts import back_off_s
from supervisor.master.starts import can_start, start
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
                    self._start(pool, seat, now_s)

    def replace_workers(self) -> None:
        """Order the workers that are due now, before anything else is done about a death."""
        now_s = monotonic_s()
        for pool in self._pools.values():
            if pool.failure is None:  # else it may be that nobody is wanted any more
                due = [seat for seat in pool.workers if seat.due_s is not None and now_s >= seat.due_s]
                for seat in filter(partial(self._may_start, pool), due):
                    self._start(pool, seat, now_s)

    def _may_start(self, pool: Pool, seat: Seat) -> bool:
        if not (seat.empty and pool.wants(seat) and can_start(pool, seat)) or seat.slot in (*pool.foreign, *pool.kept):
            return False
        return seat is not pool.consumer or self._queue_is_free(pool)

    def _queue_is_free(self, pool: Pool) -> bool:
        """Whether no consumer of another pool is still there that has this one's queue, since before a reload."""
        others = (other for other in self._pools.values() if other is not pool and other.consumer.child is not None)
        return all(other.consumes != pool.config.queue for other in others)

    def _start(self, pool: Pool, seat: Seat, now_s: float) -> None:
        try:
            start(pool, seat, self._reactor)
        except StateError as error:
            seat.deaths += 1
            seat.ordered, seat.why = None, str(error)
            delay_s = back_off_s(seat.deaths + 1, pool.config.restart_backoff_s, 0.0)
            seat.due_s = now_s + delay_s
            logging.getLogger(__name__).error("%s: %s; trying again in %.1f s", seat.name, error, delay_s)
