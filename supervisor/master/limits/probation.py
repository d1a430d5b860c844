"""Clears seats whose child has made progress after deaths, by the same rule as at a death (`restarts.py`).

Master only. A hold, and the degradation of its pool, end with progress and not with readiness: a seat whose
children die a moment after they are ready would else recover again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from supervisor.master.pool.children import Child, ChildSpec
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import STEADY_S, progressed


def clear_proven(pools: Iterable[Pool], now_s: float) -> None:
    """Clear the seats whose child has made progress."""
    for pool, spec, child in _suspects(pools):
        ready_for_s = None if child.ready_s is None else now_s - child.ready_s
        if progressed(ready_for_s, pool.slots[spec.slot].handled if spec.slot is not None else 0):
            spec.clear()


def due_s(pools: Iterable[Pool]) -> float:
    """When time alone clears the next one (CLOCK_MONOTONIC)."""
    ready = (child.ready_s for _pool, _spec, child in _suspects(pools) if child.ready_s is not None)
    return min(ready, default=float("inf")) + STEADY_S


def _suspects(pools: Iterable[Pool]) -> Iterator[tuple[Pool, ChildSpec, Child]]:
    for pool in pools:
        for spec in pool.specs:
            if spec.child is not None and (spec.deaths or spec.held):
                yield pool, spec, spec.child
