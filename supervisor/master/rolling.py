"""How workers are replaced by those of newer code: who leaves next, and which spare slots help. Pure; master only.

A new worker is ready before an old one is asked to leave, so the pool never has fewer ready workers than it had when
the replacement began. The first new ones come into spare slots; each slot that becomes empty is filled at once; when
all wanted slots have new workers, those in the spare slots leave. So the names end as they were: `email/0` …
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.master.children import Seat
from supervisor.scoreboard.words import Intent

_WORKERS_PER_SPARE = 8


@dataclass(frozen=True)
class Step:
    """What follows now: slots beyond the wanted ones that are to be filled, who is to leave, whether all is `over`."""

    spares: frozenset[int]
    leave: list[Seat]
    over: bool


def next_step(seats: Sequence[Seat], wanted: int, outdated_below: int, capacity: int) -> Step:
    """The next step of a replacement. `capacity`: ready workers at its beginning; fewer there will not be.

    Workers of forkservers older than the generation `outdated_below` are the ones to be replaced.
    """
    old = [seat for seat in seats if stays(seat) and not _is_new(seat, outdated_below)]
    new = [seat for seat in seats if stays(seat) and _is_new(seat, outdated_below)]
    ready_slots = {seat.slot for seat in new if seat.ready}
    if ready_slots.issuperset(range(wanted)):
        return Step(frozenset(), surplus(seats, wanted), True)
    spares = _spares(seats, wanted, outdated_below)
    unneeded = [seat for seat in surplus(new, wanted) if seat.slot not in spares]
    unready = [seat for seat in old if not seat.ready]
    willing = sorted((seat for seat in old if seat.ready), key=lambda seat: (_slot(seat) < wanted, _slot(seat)))
    may_leave = len(willing) + len(ready_slots) - min(capacity, wanted)
    return Step(spares, [*unneeded, *unready, *willing[: max(0, may_leave)]], False)


def surplus(seats: Sequence[Seat], wanted: int) -> list[Seat]:
    """Those whose slots are beyond the wanted number of workers and who were not asked to leave yet."""
    return [seat for seat in seats if stays(seat) and _slot(seat) >= wanted]


def stays(seat: Seat) -> bool:
    """Whether somebody is there and was not asked to leave."""
    return seat.child is not None and seat.child.intent is Intent.NONE


def free_slot(seats: Sequence[Seat], wanted: int, taken: frozenset[int]) -> int:
    """The first slot beyond the wanted ones that nobody has."""
    free = (number for number in range(wanted, len(seats)) if seats[number].empty and number not in taken)
    return next(free, max(wanted, len(seats)))


def _spares(seats: Sequence[Seat], wanted: int, outdated_below: int) -> frozenset[int]:
    count = max(1, wanted // _WORKERS_PER_SPARE)
    usable = [
        number
        for number in range(wanted, max(wanted, len(seats)) + count)
        if number >= len(seats) or seats[number].empty or _is_new(seats[number], outdated_below)
    ]
    return frozenset(usable[:count])


def _is_new(seat: Seat, outdated_below: int) -> bool:
    if seat.child is None:
        return seat.ordered is not None and seat.origin >= outdated_below
    return seat.child.origin >= outdated_below


def _slot(seat: Seat) -> int:
    assert seat.slot is not None  # workers' seats have one
    return seat.slot
