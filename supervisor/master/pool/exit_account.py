"""The exits of one pool, counted: restarts, holds, rates of unplanned exits, messages cut off. Master only."""

from __future__ import annotations

from supervisor.logs.events import Cause
from supervisor.master.exits.records import ExitRecord
from supervisor.master.limits.crash_rate import SERVICES, CrashRate
from supervisor.master.pool.children import ChildSpec, Kind
from supervisor.master.pool.restarts import Intensity


class ExitAccount:
    """`restarts` and `holds` count for the pool's life here: child specs come and go with its size.

    `cut_off`: ids of messages whose worker was killed by a stop.
    """

    def __init__(self) -> None:
        self.intensity = Intensity()
        self.crash_rate, self.service_crash_rate = CrashRate(), CrashRate(SERVICES)
        self.restarts = dict.fromkeys((Kind.WORKER, Kind.FORKSERVER, Kind.CONSUMER), 0)
        self.holds = 0
        self.cut_off: list[str] = []

    @property
    def crash_rates(self) -> tuple[CrashRate, CrashRate]:
        """The rates of all children, and of the services alone."""
        return self.crash_rate, self.service_crash_rate

    @property
    def due_s(self) -> float:
        """When the oldest of all counted exits is forgotten (CLOCK_MONOTONIC)."""
        return min(rate.due_s for rate in self.crash_rates)

    def exited(self, record: ExitRecord) -> None:
        """A child has ended: a stop may have cut off its message."""
        if record.cause is Cause.STOP_KILLED and record.message_id:
            self.cut_off.append(record.message_id)

    def replaced(self, record: ExitRecord, progressed: bool, died_s: float) -> None:
        """Count a dead child that is replaced. `died_s`: CLOCK_MONOTONIC."""
        self.restarts[record.kind] += 1
        for rate in (self.crash_rate,) if record.kind is Kind.WORKER else self.crash_rates:
            rate.add(record, progressed, died_s)

    def held(self, spec: ChildSpec, newly: bool) -> None:
        """Count a hold."""
        self.holds += 1
