"""What all owners of child specs have: a pool, or a sidecar. Used where children start, boot and end. Master only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from supervisor.master.exits.records import ExitRecord
from supervisor.master.pool.children import Child, ChildSpec
from supervisor.master.pool.restarts import Intensity, RestartPolicy


class Account(Protocol):
    """Counts the exits of an owner's children."""

    @property
    def intensity(self) -> Intensity:
        """The recent deaths without progress that count together."""

    def exited(self, record: ExitRecord) -> None:
        """This is the end of a child that had its child spec."""

    def replaced(self, record: ExitRecord, progressed: bool, died_s: float) -> None:
        """The child is replaced, at once or later. `died_s`: CLOCK_MONOTONIC."""

    def held(self, spec: ChildSpec, newly: bool) -> None:
        """The child spec is held; `newly`: it was not before."""


class Owner(Protocol):
    """An owner of child specs."""

    @property
    def specs(self) -> Sequence[ChildSpec]:
        """All its child specs."""

    @property
    def account(self) -> Account:
        """What counts its exits."""

    @property
    def policy(self) -> RestartPolicy:
        """When a dead child is replaced, and how long a child may boot."""

    @property
    def boot_tries(self) -> int:
        """So many failed boots in a row hold a child spec."""

    def wants(self, spec: ChildSpec) -> bool:
        """Whether a child is wanted there."""

    def spec_of(self, child: Child) -> ChildSpec | None:
        """The child spec that this child has; None if another child has it."""

    def dump_of(self, child: Child) -> str:
        """The stacks that this child has dumped, "" for none."""

    def disconnect(self, child: Child) -> None:
        """The child is dead: read what it still said."""


class SelfStarting(Owner, Protocol):
    """An owner of one child spec that starts its child itself."""

    @property
    def spec(self) -> ChildSpec:
        """The child spec."""

    def start(self) -> None:
        """Start the child. Raises StateError when the machine has no process or descriptor left."""
