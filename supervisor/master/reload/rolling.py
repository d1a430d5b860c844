"""How workers are replaced by those of newer code: which leave next, which spare slots help. Pure; master only.

A new worker is ready before an old one is asked to leave, so the pool never has fewer ready workers than it had when
the replacement began. The first new ones come into spare slots; each slot that becomes empty is filled at once; when
all wanted slots have new workers, those in the spare slots leave. So the names end as they were: `email/0` …
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.master.pool.children import ChildSpec
from supervisor.scoreboard.words import Intent

_WORKERS_PER_SPARE = 8


@dataclass(frozen=True)
class Step:
    """The next step. `spares`: slots beyond the wanted ones to be filled; `leave`: specs whose worker is to leave;
    `over`: none is left to be replaced."""

    spares: frozenset[int]
    leave: list[ChildSpec]
    over: bool


def next_step(specs: Sequence[ChildSpec], wanted: int, outdated_below: int, capacity: int) -> Step:
    """The next step of a replacement. `capacity`: how many workers were ready at its beginning; it leaves no fewer.

    `wanted`: the wanted number of workers. Workers of forkservers older than the generation `outdated_below` are the
    ones to be replaced.
    """
    old = [spec for spec in specs if stays(spec) and not _is_new(spec, outdated_below)]
    new = [spec for spec in specs if stays(spec) and _is_new(spec, outdated_below)]
    ready_slots = {spec.slot for spec in new if spec.ready}
    if ready_slots.issuperset(range(wanted)):
        return Step(frozenset(), surplus(specs, wanted), True)
    spares = _spares(specs, wanted, outdated_below)
    unneeded = [spec for spec in surplus(new, wanted) if spec.slot not in spares]
    unready = [spec for spec in old if not spec.ready]
    willing = sorted((spec for spec in old if spec.ready), key=lambda spec: (_slot(spec) < wanted, _slot(spec)))
    may_leave = len(willing) + len(ready_slots) - min(capacity, wanted)
    return Step(spares, [*unneeded, *unready, *willing[: max(0, may_leave)]], False)


def surplus(specs: Sequence[ChildSpec], wanted: int) -> list[ChildSpec]:
    """The workers in slots beyond the first `wanted` ones that were not asked to leave yet."""
    return [spec for spec in specs if stays(spec) and _slot(spec) >= wanted]


def stays(spec: ChildSpec) -> bool:
    """Whether the slot has a child that was not asked to leave."""
    return spec.child is not None and spec.child.intent is Intent.NONE


def free_slot(specs: Sequence[ChildSpec], wanted: int, taken: frozenset[int]) -> int:
    """The first empty slot beyond the first `wanted` ones. `taken`: slots that are not free though they are empty."""
    free = (number for number in range(wanted, len(specs)) if specs[number].empty and number not in taken)
    return next(free, max(wanted, len(specs)))


def _spares(specs: Sequence[ChildSpec], wanted: int, outdated_below: int) -> frozenset[int]:
    count = max(1, wanted // _WORKERS_PER_SPARE)
    usable = [
        number
        for number in range(wanted, max(wanted, len(specs)) + count)
        if number >= len(specs) or specs[number].empty or _is_new(specs[number], outdated_below)
    ]
    return frozenset(usable[:count])


def _is_new(spec: ChildSpec, outdated_below: int) -> bool:
    if spec.child is None:
        return spec.ordered is not None and spec.origin >= outdated_below
    return spec.child.origin >= outdated_below


def _slot(spec: ChildSpec) -> int:
    assert spec.slot is not None  # a worker has one
    return spec.slot
