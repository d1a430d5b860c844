"""Keeps one standby ahead of the next order, so that a dead worker's replacement need not wait for two forks.

Runs in the forkserver. It begins with the first order (a pool without workers pays nothing), and makes the next standby
only after a moment of quiet: the processor belongs to the worker that has just been born, and a burst of orders is for
births on the spot. It must never retry by itself: a standby that ended early is missed until the next order.
"""

from __future__ import annotations

import logging
import math
import select
from collections.abc import Callable
from select import POLLIN

from supervisor.forkserver.double_fork import DiedWaiting, DoubleFork, NotBorn
from supervisor.system.clock import monotonic_s

QUIET_S = 0.02
"""A birth takes a few milliseconds."""

_ENDED = "a standby ended before it was needed: %s"

_logger = logging.getLogger("preforkd.forkserver")


class SparePool:
    """`make` forks a birth, or raises NotBorn. The standby's end is announced through `poll`."""

    def __init__(self, make: Callable[[], DoubleFork], poll: select.poll) -> None:
        self._make = make
        self._poll = poll
        self._standby: DoubleFork | None = None
        self._due_s = math.inf

    def bring_up(self, slot: int, generation: int) -> int:
        """A worker that has this slot, from the standby or born on the spot; its pid. Raises NotBorn."""
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
            except DiedWaiting as error:
                _logger.warning(_ENDED, error)
        return self._make().assign(slot, generation)

    def patience_s(self, most_s: float) -> float:
        """How long the forkserver may sleep."""
        return max(0.0, min(most_s, self._due_s - monotonic_s()))

    def follow(self) -> None:
        """Give up a standby that has ended."""
        if self._standby is not None and self._standby.is_over and (standby := self._release()) is not None:
            _logger.warning(_ENDED, standby.dismiss())

    def replenish(self) -> None:
        """Make the next standby when it is due."""
        if monotonic_s() < self._due_s:
            return
        self._due_s = math.inf
        try:
            self._standby = self._make()
        except NotBorn as error:
            _logger.warning("no standby can be made: %s", error)
            return
        self._poll.register(self._standby, POLLIN)
        # fail-point: forkserver.standby-made: a standby lives, nobody has ordered it

    def close(self) -> None:
        """End the standby."""
        if (standby := self._release()) is not None:
            standby.dismiss()

    def _release(self) -> DoubleFork | None:
        standby, self._standby = self._standby, None
        if standby is not None:
            self._poll.unregister(standby)
        return standby
