"""The duty that watches the rates of unplanned exits (`crash_rate.py`). Master only."""

from __future__ import annotations

from collections.abc import Collection

from supervisor.master.pool.pool import Pool


class CrashWatch:
    """Notices and heals the symptoms of pools whose children crash often."""

    does = "watch the rates of crashes"

    def __init__(self, pools: Collection[Pool]) -> None:
        self._pools = pools

    @property
    def due_s(self) -> float:
        """When the oldest of all exits is forgotten (CLOCK_MONOTONIC)."""
        rates = (rate.due_s for pool in self._pools for rate in pool.account.crash_rates)
        return min(rates, default=float("inf"))

    def turn(self, now_s: float) -> None:
        """Judge all rates."""
        for pool in self._pools:
            for rate in pool.account.crash_rates:
                rate.judge(pool.config, pool.symptoms, now_s)
