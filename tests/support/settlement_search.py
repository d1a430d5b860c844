"""Breadth-first search through all worlds that can come of one, and the way of any world to its rest."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from supervisor.consumer.settlement.messages import failure_of
from supervisor.ledger.base import Row
from tests.support.settlement_checks import check_fed, check_rest
from tests.support.settlement_events import happen, possible
from tests.support.settlement_parts import Broken, Copy, Event
from tests.support.settlement_states import settlement_state
from tests.support.settlement_world import World

_LONGEST_REST = 400


class Found(NamedTuple):
    """How far a search has come."""

    states: int
    transitions: int


def explore(start: World, depth: int, rest_every: int = 8) -> Found:
    """Visit every world within `depth` events of `start`; of each `rest_every`th the way to rest as well.

    Raises Broken, with the shortest history that leads there.
    """
    with _no_search_for_garbage():
        return _explore(start, depth, rest_every)


@contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Worlds hold no cycles, and a search keeps ever more of them: looking through them takes a third of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _explore(start: World, depth: int, rest_every: int) -> Found:
    seen: dict[int, tuple[int, Event] | None] = {_mark(start): None}
    frontier, transitions = [(start, _mark(start))], 0
    for _level in range(depth):
        reached = []
        for world, mark in frontier:
            for event in possible(world):
                try:
                    for then, following in _successors(world, event):
                        transitions += 1
                        new = _mark(following)
                        if new in seen:
                            continue
                        seen[new] = mark, then
                        reached.append((following, new))
                        if len(seen) % rest_every == 0:
                            event = then
                            come_to_rest(following.clone())
                except Broken as broken:
                    raise Broken(f"{broken}\n  after {_history(seen, mark)}, then {event}") from broken
        frontier = reached
    return Found(len(seen), transitions)


def come_to_rest(world: World) -> World:
    """Let everything happen that is no fault, until nothing can; then nothing may be lost or stuck."""
    for _ in range(_LONGEST_REST):
        event = next(possible(world, faults=False), None)
        if event is None:
            check_rest(world)
            return world
        if event.name == "reopen":
            check_fed(world)
        happen(world, event)
    raise Broken("it never comes to rest")


def _successors(world: World, event: Event) -> Iterator[tuple[Event, World]]:
    whole = world.clone()
    steps = happen(whole, event)
    yield event, whole
    if whole.faults:
        for step in range(1, steps):
            cut = world.clone()
            crash = event._replace(crash_after=step)
            happen(cut, crash)
            yield crash, cut


def _history(seen: dict[int, tuple[int, Event] | None], mark: int) -> str:
    events = []
    while (came := seen[mark]) is not None:
        mark, event = came
        events.append(event)
    return " ".join(
        f"{event.name}({event.what})" + (f"+crash after {event.crash_after}" if event.crash_after else "")
        for event in reversed(events)
    )


def _mark(world: World) -> int:
    """Equal for worlds with equal futures."""
    tags = {tag: number for number, tag in enumerate(world.unacked)}
    tokens = {token: number for number, token in enumerate(world.settlement.publications._outgoing)}
    places = (world.ready, world.dropped, world.delayed, world.dead, world.parked)
    return hash(
        (
            settlement_state(world.settlement, tags, tokens),
            _rows_state(world.ledger.rows),
            _known_of(world.ledger.rows) if world.has_inbox else None,
            world.inbox.state if world.has_inbox else None,
            _rows_state(world.ledger.durable_rows) if world.committing else None,
            _rows_state(world.ledger.others),
            (world.rival, world.rival_linked, world.done_elsewhere, world.run_elsewhere),
            tuple(_in_any_order(place) for place in places),
            tuple(world.unacked.values()),
            tuple((tokens.get(flight.outgoing.token), flight.accepted) for flight in world.flights),
            frozenset(tokens.get(token) for token in world.timers),
            tuple(slot.state for slot in world.slots),
            (world.paused, world.faults, world.heard, world.given, world.late),
            (world.started, world.warned, world.done, world.audited, world.cut_off),
            (world.closed, world.synced, tuple(world.committing or ()), world.recalls, world.unproven, world.remembers),
            world.expiring,
        )
    )


def _in_any_order(found: list[Copy]) -> Collection[object]:
    """Equal for equal copies in another order."""
    return frozenset(Counter(found).items()) if len(found) > 1 else tuple(found)


def _known_of(rows: dict[bytes, Row]) -> frozenset[object]:
    return frozenset((row.key, failure_of(row).earlier) for row in rows.values())


def _rows_state(rows: dict[bytes, Row]) -> frozenset[object]:
    return frozenset((row.key, row.round, row.attempt, row.state, row.slot, row.generation) for row in rows.values())
