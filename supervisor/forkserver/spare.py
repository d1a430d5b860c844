"""Keeps one standby ready, so that the replacement of a dead worker does not wait for two forks.

Runs in the forkserver. It begins with the first order (a pool without workers needs no standby), and makes the next
standby only after a quiet moment: the new worker needs the processor first, and a burst of orders is served by direct
forks. It must never retry by itself: a standby that ended early is replaced after the next order.
"""

from __future__ import annotations

import logging
import math
import select
from collections.abc import Callable
from select import POLLIN

from supervisor.forkserver.double_fork import DoubleFork, NoWorker, StandbyEnded
from supervisor.system.clock import monotonic_s

QUIET_S = 0.02
"""Longer than the few milliseconds of a double fork."""

_ENDED = "a standby ended before it was needed: %s"

_logger = logging.getLogger("preforkd.forkserver")


class SparePool:
    """`make()` starts a double fork, or raises NoWorker. `poll` reports the standby's end."""

    def __init__(self, make: Callable[[], DoubleFork], poll: select.poll) -> None:
        self._make = make
        self._poll = poll
        self._standby: DoubleFork | None = None
        self._due_s = math.inf

    def start_worker(self, slot: int, generation: int) -> int:
        """Give this slot to the standby, or to a new worker; returns the pid. Raises NoWorker."""
        try:
            return self._assign(slot, generation)
        finally:
            self._due_s = monotonic_s() + QUIET_S

    def _assign(self, slot: int, generation: int) -> int:
        self.follow()
        standby = self._release()
        if standby is not None:
            try:
                return standby.assign(slot, generation)
            except StandbyEnded as error:
                _logger.warning(_ENDED, error)
        return self._make().assign(slot, generation)

    def wait_s(self, most_s: float) -> float:
        """Seconds that the forkserver may wait, at most `most_s`."""
        return max(0.0, min(most_s, self._due_s - monotonic_s()))

    def follow(self) -> None:
        """Remove a standby that has ended."""
        if self._standby is not None and self._standby.is_over and (standby := self._release()) is not None:
            _logger.warning(_ENDED, standby.dismiss())

    def replenish(self) -> None:
        """Make the next standby when it is due."""
        if monotonic_s() < self._due_s:
            return
        self._due_s = math.inf
        try:
            self._standby = self._make()
        except NoWorker as error:
            _logger.warning("no standby can be made: %s", error)
            return
        self._poll.register(self._standby, POLLIN)
        # fail-point: forkserver.standby-made: a standby lives, without an order

    def close(self) -> None:
        """End the standby."""
        if (standby := self._release()) is not None:
            standby.dismiss()

    def _release(self) -> DoubleFork | None:
        standby, self._standby = self._standby, None
        if standby is not None:
            self._poll.unregister(standby)
        return standby
