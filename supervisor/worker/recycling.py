"""The recycling limits of a worker: handled messages, age, private memory. Checked between two messages only.

Runs in workers. Each limit has a jitter of ten per cent, so that workers started together do not exit together.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from supervisor.config.schema import PoolConfig
from supervisor.scoreboard.words import LeavingReason

_BLUR = 0.1
_MEMORY_CHECK_S = 0.1


class Recycling:
    """`exceeds(limit_bytes)`: whether this process has more private memory; `dice()`: a random number in [0, 1)."""

    def __init__(
        self, pool: PoolConfig, born_s: float, exceeds: Callable[[int], bool], dice: Callable[[], float]
    ) -> None:
        self._messages = max(1, round(_blurred(pool.max_messages, dice))) if pool.max_messages else math.inf
        self._leave_at_s = born_s + _blurred(pool.max_age_s, dice)
        self._memory = pool.max_memory_bytes
        self._exceeds = exceeds
        self._memory_due_s = born_s
        self.handled = 0

    def due(self, now_s: float) -> LeavingReason | None:
        """The first limit reached, or None."""
        if self.handled >= self._messages:
            return LeavingReason.MESSAGES
        if now_s >= self._leave_at_s:
            return LeavingReason.AGE
        return LeavingReason.MEMORY if self._too_big(now_s) else None

    def age_left_s(self, now_s: float) -> float:
        """Seconds until the worker is too old; infinite without a limit."""
        return self._leave_at_s - now_s

    def _too_big(self, now_s: float) -> bool:
        if not self._memory or not self.handled or now_s < self._memory_due_s:
            return False
        self._memory_due_s = now_s + _MEMORY_CHECK_S
        return self._exceeds(self._memory)


def _blurred(limit: float, dice: Callable[[], float]) -> float:
    return limit * (1 + _BLUR * (2 * dice() - 1)) if limit else math.inf
