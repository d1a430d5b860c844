"""Fair comparison on a machine whose speed drifts: the contestants in turn, again and again, and ratios pair by pair.
Pure, but for the contestants' work."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks.bench.figures import Cell


def interleaved(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """A B C, A B C, …: what each returned, round by round. Every second round goes backwards: A B C, C B A, …, so that
    no contestant always comes first."""
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            results[name].append(contestants[name]())
    return results


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios within each round: a machine that was slow for a while was slow for both."""
    return median([our / their for our, their in zip(ours, theirs, strict=True)])


def best(results: dict[str, list[float]], names: Sequence[str]) -> list[float]:
    """Round by round the highest value of several ways to run the same contestant."""
    return [max(values) for values in zip(*(results[name] for name in names), strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest measured value that so many percent do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def spread(values: Sequence[float]) -> dict[str, Cell]:
    """Cells for latencies: p50, p99, how many."""
    return {"p50": percentile(values, 50), "p99": percentile(values, 99), "n": len(values)}
