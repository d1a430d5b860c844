"""What the master keeps an eye on in each pool beside deaths and time limits, together for its loop. Master only."""

from __future__ import annotations

from collections.abc import Collection

from supervisor.master import probation
from supervisor.master.boots import Boots
from supervisor.master.pool import Pool


class Watch:
    """`judge` in every turn. `due_s`: when it is needed next (CLOCK_MONOTONIC)."""

    def __init__(self, pools: Collection[Pool]) -> None:
        self._pools = pools
        self._boots = Boots(pools)

    @property
    def due_s(self) -> float:
        """The earliest moment at which there is something to do."""
        return min(self._boots.due_s, probation.due_s(self._pools))

    def judge(self, now_s: float) -> None:
        """Clear who has proved that it works, end who does not get ready."""
        probation.acquit(self._pools, now_s)
        self._boots.judge(now_s)
