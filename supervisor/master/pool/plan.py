"""Which children a pool is to have, beside what its configuration says. Pure; master only."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.master.pool.children import ChildSpec


@dataclass(frozen=True)
class Plan:
    """Immutable: a reload, and the scaling after it, replace the plan of a pool. The plan without fields is the rule.

    `candidate`: a forkserver with new code, on trial beside the present one. `canary`: the slot of the worker that
    proves new code. `spares`: slots beyond the wanted number of workers that are filled during a replacement.
    `on_trial`: the pool is new, and only its code is tried. `consumer_leaves`: the consumer drains and is replaced.
    """

    candidate: ChildSpec | None = None
    canary: int | None = None
    spares: frozenset[int] = frozenset()
    on_trial: bool = False
    consumer_leaves: bool = False

    @property
    def extra_slots(self) -> frozenset[int]:
        """Slots to be filled, whatever the wanted number of workers is."""
        return self.spares if self.canary is None else self.spares | {self.canary}
