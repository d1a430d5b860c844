"""Rules by which the master ends children: limits, standstill, damage, overdue terminations. Master only."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from supervisor.master.duties import Duties
from supervisor.master.limits import probation
from supervisor.master.limits.deadlines import Deadlines
from supervisor.master.limits.hang_detector import HangDetector
from supervisor.master.limits.limits import Limits
from supervisor.master.limits.watch import Watch
from supervisor.master.pool.children import Child
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.slot_watch import SlotWatch
from supervisor.master.stop.terminations import Terminations


class Enforcement:
    """`pools` is the master's own view; `stale_s`: how long a forkserver or consumer may stand still, in seconds."""

    def __init__(
        self, pools: Collection[Pool], terminations: Terminations, duties: Duties, stale_s: float, now_s: float
    ):
        self._pools = pools
        self._terminations = terminations
        self._duties = duties
        self._limits = Limits(pools, Deadlines(now_s))
        self._hang_detector = HangDetector(now_s, stale_s)
        self._slot_watch = SlotWatch(now_s)
        self._watch = Watch(pools)

    def due_times(self) -> Iterator[float]:
        """When `judge` is needed next (CLOCK_MONOTONIC)."""
        yield self._limits.due_s
        yield self._hang_detector.due_s
        yield self._slot_watch.due_s
        yield self._watch.due_s
        yield self._terminations.due_s
        yield probation.due_s(self._pools)

    def judge(self, now_s: float) -> None:
        """One look at everything that is due."""

        def clear_what_has_proved_itself() -> None:
            probation.clear_proven(self._pools, now_s)

        def notice_what_goes_wrong() -> None:
            self._watch.judge(now_s)

        def keep_the_limits() -> None:
            self._limits.judge(now_s)

        def end_what_stands_still() -> None:
            self._hang_detector.judge(self._pools, now_s)

        def end_workers_of_damaged_slots() -> None:
            self._slot_watch.judge(self._pools, now_s)

        def end_overdue_leavers() -> None:
            self._terminations.judge(now_s)

        self._duties.carry_out(
            clear_what_has_proved_itself,
            notice_what_goes_wrong,
            keep_the_limits,
            end_what_stands_still,
            end_workers_of_damaged_slots,
            end_overdue_leavers,
        )

    def forget(self, child: Child) -> None:
        """The child is dead."""
        self._limits.forget(child)
        self._terminations.forget(child)
