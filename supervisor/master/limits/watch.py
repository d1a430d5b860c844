"""Watches each pool for more than deaths and time limits: progress, boots, standstill, crashes. Master only."""

from __future__ import annotations

from collections.abc import Collection

from supervisor.master.limits import probation
from supervisor.master.limits.boots import Boots
from supervisor.master.limits.standstill import Standstill
from supervisor.master.pool.pool import Pool


class Watch:
    """`judge` in every turn. `due_s`: when it is needed next (CLOCK_MONOTONIC)."""

    def __init__(self, pools: Collection[Pool]) -> None:
        self._pools = pools
        self._boots = Boots(pools)
        self._standstill = Standstill()

    @property
    def due_s(self) -> float:
        """The earliest moment at which there is something to do."""
        rates = (rate.due_s for pool in self._pools for rate in (pool.crash_rate, pool.service_crash_rate))
        return min(self._boots.due_s, self._standstill.due_s, probation.due_s(self._pools), *rates)

    def judge(self, now_s: float) -> None:
        """Clear seats whose child works, end boots that hang, notice pools that stand still or crash."""
        probation.clear_proven(self._pools, now_s)
        self._boots.judge(now_s)
        self._standstill.judge(self._pools, now_s)
        for pool in self._pools:
            for rate in (pool.crash_rate, pool.service_crash_rate):
                rate.judge(pool.config, pool.symptoms, now_s)
