"""I1 to I5 in every world that can come of a few messages, workers and faults: by exhaustive search, and at random.

PREFORKD_SOAK=<number> searches three events deeper, and ten times as many long histories; PREFORKD_MODEL_DEPTH=<events>
searches that many deeper (each costs about 2.5 times more).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.settlement_events import happen, possible
from tests.support.settlement_parts import Laws
from tests.support.settlement_search import come_to_rest, explore
from tests.support.settlement_world import World

SOAK = bool(os.environ.get("PREFORKD_SOAK"))
DEEPER = int(os.environ.get("PREFORKD_MODEL_DEPTH", "3" if SOAK else "0"))
HISTORIES = 1000 if SOAK else 100

ONE = (b"a",)
TWO = (b"a", b"b")
ALIKE = (b"a", b"a")

SMALL_WORLDS = {
    "two messages": (Laws(TWO, faults=2), 5),
    "two alike without ids": (Laws(ALIKE, ids=False, faults=2), 6),
    "one without an id": (Laws(ONE, ids=False, faults=3), 6),
    "one message, many faults": (Laws(ONE, faults=4), 6),
    "one message, long life": (Laws(ONE, faults=3, max_attempts=1), 10),
    "crashes are parked": (Laws(ONE, faults=3, on_crash="park"), 7),
    "handlers publish": (Laws(ONE, faults=2, publishes=True), 8),
    "several events a turn": (Laws(ONE, faults=2, together=3), 7),
    "dead letters refused": (Laws(TWO, faults=2, max_attempts=1, window=1, refuses=("q.dead",)), 6),
    "retries refused": (Laws(TWO, faults=2, window=1, refuses=("q",)), 6),
    "delivery limit of 1": (Laws(ONE, faults=4, delivery_limit=1), 5),
    "delivery limit of 2": (Laws(ONE, faults=4, delivery_limit=2, max_attempts=1), 6),
    "delivery limit of 1, two messages": (Laws(TWO, faults=3, workers=1, delivery_limit=1), 5),
    "delivery limit of 1, no id": (Laws(ONE, ids=False, faults=3, delivery_limit=1), 6),
    "delivery limit of 1, slow disk": (Laws(ONE, faults=3, delivery_limit=1, slow_disk=True), 6),
    "another daemon": (Laws(ONE, faults=3, workers=1, rival=True), 7),
    "another daemon, two messages": (Laws(TWO, faults=2, workers=1, room=1, rival=True), 6),
    "another daemon, slow disk": (Laws(ONE, faults=2, slow_disk=True, rival=True), 6),
    "a neighbour": (Laws(ONE, workers=1, faults=5, neighbour=True), 7),
    "a neighbour, one attempt": (Laws(ONE, workers=1, faults=5, max_attempts=1, neighbour=True), 7),
    "inbox": (Laws(ONE, faults=2, on_crash="inbox", publishes=True), 9),
    "inbox, after a death": (Laws(ONE, faults=3, on_crash="inbox", max_attempts=1, deaths=1), 8),
    "inbox, committed before a death": (
        Laws(ONE, faults=3, workers=1, on_crash="inbox", max_attempts=1, deaths=1, committed=True, publishes=True),
        10,
    ),
    "inbox, asked": (Laws(ONE, faults=3, on_crash="inbox", max_attempts=1, deaths=2), 8),
    "inbox, asked, committed": (
        Laws(ONE, faults=3, workers=1, on_crash="inbox", max_attempts=1, deaths=2, committed=True, publishes=True),
        10,
    ),
    "inbox, asked, slow disk": (
        Laws(ONE, faults=2, workers=1, on_crash="inbox", max_attempts=1, deaths=2, slow_disk=True),
        9,
    ),
    "expiry": (Laws(ONE, faults=3, expires=True), 6),
    "expiry, two messages": (Laws(TWO, workers=1, faults=2, expires=True), 6),
    "expiry, no id": (Laws(ONE, ids=False, workers=1, faults=3, expires=True), 7),
    "expiry, slow disk": (Laws(ONE, faults=2, slow_disk=True, expires=True), 7),
    "expiry, delivery limit of 1": (Laws(ONE, faults=3, delivery_limit=1, expires=True), 5),
    "expiry, another daemon": (Laws(ONE, faults=3, workers=1, rival=True, expires=True), 6),
    "slow disk": (Laws(ONE, faults=2, slow_disk=True), 8),
    "slow disk, two messages": (Laws(TWO, faults=1, slow_disk=True), 7),
    "slow disk, no id": (Laws(ONE, ids=False, faults=2, slow_disk=True), 7),
    "slow disk, handlers publish": (Laws(ONE, faults=2, publishes=True, slow_disk=True), 7),
}


def greeted(laws: Laws) -> World:
    """A world whose workers have said hello."""
    world = World(laws)
    for event in list(possible(world, faults=False)):
        if event.name == "hello":
            happen(world, event)
            world.turn()
    return world


@pytest.mark.parametrize("name", SMALL_WORLDS)
def test_i1_to_i5_hold_in_every_small_world(name: str, record_property: Callable[[str, object], None]) -> None:
    laws, depth = SMALL_WORLDS[name]
    found = explore(greeted(laws), depth + DEEPER)
    record_property("states", found.states)
    record_property("transitions", found.transitions)
    sys.stdout.write(f"{name}: {found.states} states, {found.transitions} transitions, {depth + DEEPER} events deep\n")
    assert found.states > 1000


LARGE_WORLDS = [
    Laws((b"a", b"b", b"b", b"c"), workers=3, room=3, faults=12, together=2, max_attempts=3),
    Laws((b"a", b"a", b"b"), ids=False, workers=2, room=3, faults=10, slow_disk=True),
    Laws((b"a", b"b", b"c"), workers=2, publishes=True, faults=12, together=3, slow_disk=True),
    Laws((b"a", b"b", b"c"), workers=3, on_crash="park", faults=12, together=2),
    Laws((b"a", b"b"), workers=2, on_crash="inbox", publishes=True, max_attempts=1, faults=16, together=2),
    Laws((b"a", b"b", b"c"), workers=2, on_crash="inbox", publishes=True, faults=16, slow_disk=True),
    Laws((b"a", b"b", b"c", b"d"), workers=2, faults=12, window=2, refuses=("q", "q.dead"), slow_disk=True),
    Laws((b"a", b"b", b"c"), workers=2, faults=12, together=2, delivery_limit=2, slow_disk=True),
    Laws((b"a", b"a", b"b"), ids=False, workers=2, faults=10, together=2, delivery_limit=1),
    Laws((b"a", b"b", b"c"), workers=2, faults=16, together=2, slow_disk=True, rival=True),
    Laws((b"a", b"b", b"c"), workers=2, faults=16, together=2, slow_disk=True, neighbour=True),
    Laws((b"a", b"b", b"c"), workers=2, publishes=True, faults=12, together=2, slow_disk=True, expires=True),
]


@pytest.mark.parametrize("laws", LARGE_WORLDS)
@settings(max_examples=HISTORIES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(choices=st.lists(st.integers(0, 10_000), min_size=20, max_size=80))
def test_i1_to_i5_hold_in_long_histories_of_larger_worlds(laws: Laws, choices: list[int]) -> None:
    world = greeted(laws)
    for choice in choices:
        events = list(possible(world))
        if not events:
            break
        event = events[choice % len(events)]
        dying = choice % 7 == 0 and world.faults > 1
        happen(world, event._replace(crash_after=choice % 5) if dying else event)
    come_to_rest(world)
