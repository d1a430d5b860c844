"""What all owners of child specs have: a pool, or a sidecar. Used where children start, boot and end. Master only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from supervisor.config.schema import PoolConfig
from supervisor.logs.events import Cause
from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.master.pool.crash_rate import SERVICES, CrashRate
from supervisor.master.pool.exit_records import ExitRecord
from supervisor.master.pool.restarts import Intensity, decide_unborn
from supervisor.system.clock import monotonic_s

_logger = logging.getLogger("preforkd.master")


class Owner(Protocol):
    """An owner of child specs. `config`: when a dead child is replaced, and how long a child may boot; `intensity`: the
    recent deaths without progress that count together."""

    config: PoolConfig
    intensity: Intensity

    @property
    def specs(self) -> Sequence[ChildSpec]:
        """All its child specs."""

    @property
    def boot_tries(self) -> int:
        """So many failed boots in a row hold a child spec."""

    def wants(self, spec: ChildSpec) -> bool:
        """Whether a child is wanted there."""

    def spec_of(self, child: Child) -> ChildSpec | None:
        """The child spec that this child has; None if another child has it."""

    def held(self, spec: ChildSpec, newly: bool) -> None:
        """The child spec is held; `newly`: it was not before."""

    def disconnect(self, child: Child) -> None:
        """The child is dead: read what it still said."""


class SelfStarting(Owner, Protocol):
    """An owner of one child spec that starts its child itself."""

    def start(self) -> None:
        """Start the child. Raises StateError when the machine has no process or descriptor left."""


def stays_empty(owner: Owner, spec: ChildSpec, reason: str) -> None:
    """Write down that no child could be started for `spec`, and when that is tried again."""
    was_held = spec.held
    decision = decide_unborn(spec, owner.intensity, owner.config, now_s := monotonic_s())
    assert decision.delay_s is not None  # it is still wanted
    spec.not_started(now_s + decision.delay_s, reason)
    if decision.hold:
        owner.held(spec, newly=not was_held)
    _logger.error("%s cannot be started: %s; trying again in %.1f s", spec.name, reason, decision.delay_s)


class ExitAccount:
    """The exits of a pool, counted for its life here: child specs come and go with its size.

    `crash_rates`: of all children, and of the services alone. `cut_off`: ids of messages whose worker was killed by a
    stop.
    """

    def __init__(self) -> None:
        self.crash_rate = CrashRate()
        self.crash_rates = (self.crash_rate, CrashRate(SERVICES))
        self.restarts = dict.fromkeys((Kind.WORKER, Kind.FORKSERVER, Kind.CONSUMER), 0)
        self.cut_off: list[str] = []

    @property
    def due_s(self) -> float:
        """When the oldest of all counted exits is forgotten (CLOCK_MONOTONIC)."""
        return min(rate.due_s for rate in self.crash_rates)

    def exited(self, record: ExitRecord, progressed: bool, died_s: float, replaced: bool) -> None:
        """Count an exit. `progressed`: after progress; `died_s`: CLOCK_MONOTONIC; `replaced`: at once or later."""
        if record.cause is Cause.STOP_KILLED and record.message_id:
            self.cut_off.append(record.message_id)
        if not replaced:
            return
        self.restarts[record.kind] += 1
        for rate in (self.crash_rate,) if record.kind is Kind.WORKER else self.crash_rates:
            rate.add(record, progressed, died_s)
