"""Clears the deaths of child specs whose child has made progress, by the rule of `restarts.py`.

Master only. A hold, and the degradation of its pool, end with progress and not with readiness: a child spec whose
children die a moment after they are ready would else recover again and again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from supervisor.master.pool.children import Child, ChildSpec
from supervisor.master.pool.owner import Owner
from supervisor.master.pool.restarts import STEADY_S, progressed


class Probation:
    """Looks at child specs that had deaths and have a child again."""

    does = "clear what has made progress"

    def __init__(self, pools: Collection[Owner], others: Collection[Owner] = ()) -> None:
        self._pools = pools
        self._others = others

    @property
    def due_s(self) -> float:
        """When time alone clears the next child spec (CLOCK_MONOTONIC)."""
        ready = (child.ready_s for _spec, child in self._suspects() if child.ready_s is not None)
        return min(ready, default=float("inf")) + STEADY_S

    def turn(self, now_s: float) -> None:
        """Clear the child specs whose child has made progress."""
        for spec, child in self._suspects():
            ready_for_s = None if child.ready_s is None else now_s - child.ready_s
            if progressed(ready_for_s, child.slot_file.handled if child.slot_file is not None else 0):
                spec.clear()

    def _suspects(self) -> Iterator[tuple[ChildSpec, Child]]:
        for owner in (*self._pools, *self._others):
            for spec in owner.specs:
                if spec.child is not None and (spec.deaths or spec.held):
                    yield spec, spec.child
