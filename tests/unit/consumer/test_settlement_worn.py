"""Messages that their queue may drop when they come back once more: each is saved by a copy, in time and once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from supervisor.brokers import copy_headers
from supervisor.brokers.base import Delivery, Outgoing
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.delivery_limit import count_of, worn_from
from supervisor.consumer.settlement.messages import Arrival, Entry, Phase
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.logs.events import Event
from supervisor.messages.message import Properties
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settlement_events import happen, possible
from tests.support.settlement_parts import Broken, Laws
from tests.support.settlement_search import explore
from tests.support.settlement_world import World
from tests.support.settling import QUEUE, W0, Bench

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 2),
        ({"x-delivery-limit": 20}, 2),
        ({"x-delivery-limit": 5}, 2),
        ({"x-delivery-limit": 2}, 1),
        ({"x-delivery-limit": 1}, 1),
        ({"x-delivery-limit": 0}, 1),
        ({"x-delivery-limit": -1}, 2),
        ({"x-delivery-limit": "2"}, 2),
        ({"x-delivery-limit": 10**9}, 2),
    ],
)
def test_a_message_is_worn_at_half_of_the_limit_and_early_where_that_is_unknown(
    arguments: dict[str, Any], count: int
) -> None:
    assert worn_from(arguments) == count


@pytest.mark.parametrize(
    ("headers", "count"),
    [(None, 0), ({}, 0), ({"x-delivery-count": 4}, 4), ({"x-delivery-count": "4"}, 0), ({"x-delivery-count": True}, 0)],
)
def test_the_count_is_what_the_queue_says(headers: dict[str, Any] | None, count: int) -> None:
    assert count_of(Delivery(1, 1, "", QUEUE, True, Properties(headers=headers), b"")) == count


def saved(bench: Bench) -> Outgoing:
    """The copy that this turn publishes."""
    bench.turn()
    (outgoing,) = bench.published()
    return outgoing


def test_a_worn_message_is_copied_acked_and_run_when_its_copy_comes() -> None:
    bench = Bench()
    tag = bench.deliver(redelivered=True, worn=True)
    assert not bench.settlement.assignments.waiting
    copy = saved(bench)
    assert (copy.routing_key, copy.delay_s, copy.properties.message_id) == (QUEUE, 0.0, "m")
    assert (copy.properties.headers or {})[copy_headers.ATTEMPT] == 1
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]
    assert bench.said() == [Event.MESSAGE_SAVED]
    assert bench.empty
    bench.deliver(run=(1, 1))
    bench.assign()
    bench.turn()
    assert bench.runs() == [(1, 1)]
    assert bench.counters == {"delivered": 2, "saved": 1, "published": 1}


@pytest.mark.parametrize("name", ["expiration", "priority", "timestamp", "correlation_id", "reply_to"])
def test_a_saved_copy_is_the_same_message(name: str) -> None:
    value: Any = {"priority": 3, "timestamp": 1_800_000_000}.get(name, "60000")
    headers = {"x-delivery-count": 9, "mine": "yes"}
    properties = msgspec.structs.replace(Properties(headers=headers, message_id="m"), **{name: value})
    entry = Entry(b"k" * 24, "m", 2, 3)
    entry.delivery = Delivery(1, 1, "orders", "new", True, properties, b"body")
    copy = copies.saved_copy(entry, QUEUE, 5)
    assert "x-delivery-count" not in (copy.properties.headers or {})
    again = Delivery(1, 2, "", QUEUE, False, copy.properties, copy.body)
    handled = copies.as_handled(again, QUEUE)
    assert (getattr(handled, name), handled.headers, handled.message_id) == (value, headers, "m")
    assert copies.stamp(again, QUEUE) == (2, 3)
    assert copies.origin(again, QUEUE) == ("orders", "new")


def test_a_copy_that_comes_before_its_confirm_is_run_and_its_original_acked() -> None:
    bench = Bench()
    original = bench.deliver(redelivered=True, worn=True)
    copy = saved(bench)
    bench.deliver(run=(1, 1))
    assert bench.acked() == [original]
    bench.confirmed(copy.token)
    bench.assign()
    assert bench.acked() == []
    assert bench.runs() == [(1, 1)]


def test_what_the_queue_dropped_with_the_connection_is_published_from_memory() -> None:
    bench = Bench()
    bench.deliver(redelivered=True, worn=True)
    copy = saved(bench)
    bench.lose_connection()
    bench.settlement.unpublished(copy.token, "the connection is gone", lost=True)
    bench.turn()
    assert bench.later() == [copy.token]
    bench.settlement.publications.publish_again(copy.token)
    assert saved(bench) == copy
    bench.confirmed(copy.token)
    assert bench.acked() == []
    assert bench.empty


def test_a_worn_message_that_cannot_be_saved_is_run_while_it_is_here() -> None:
    bench = Bench()
    tag = bench.deliver(redelivered=True, worn=True)
    copy = saved(bench)
    bench.settlement.unpublished(copy.token, "the queue is full", lost=False)
    run = bench.assign()
    bench.turn()
    assert bench.runs() == [(1, 1)]
    bench.ends(run)
    assert bench.acked() == [tag]
    assert bench.empty


@pytest.mark.parametrize("when", ["a pause", "a lost connection", "a worker that gives it back in a pause"])
def test_a_worn_message_that_could_not_be_saved_is_tried_again_before_it_is_given_up(when: str) -> None:
    bench = Bench()
    bench.deliver(redelivered=True, worn=True)
    bench.settlement.unpublished(saved(bench).token, "the queue is full", lost=False)
    if when == "a worker that gives it back in a pause":
        run = bench.assign()
        bench.turn()
        bench.settlement.accepting = False
        bench.settlement.returned(W0, [run])
    elif when == "a pause":
        bench.settlement.drain()
    else:
        bench.lose_connection()
    saved(bench)
    assert bench.returned() == []
    assert bench.entry().phase is Phase.SAVING


def test_a_worn_message_that_arrives_in_a_pause_is_saved_not_given_back() -> None:
    bench = Bench()
    bench.settlement.drain()
    tag = bench.deliver(redelivered=True, worn=True)
    copy = saved(bench)
    assert bench.returned() == []
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]


def test_a_worn_message_that_is_on_record_as_done_is_acked_without_a_copy() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run)
    bench.turn()
    tag = bench.deliver(redelivered=True, worn=True)
    assert bench.acked() == [tag]
    assert bench.published() == []


def test_a_run_goes_on_while_its_message_is_dropped_and_fails_into_a_copy() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.lose_connection()
    bench.deliver(redelivered=True, worn=True)
    bench.lose_connection()
    bench.ends(run, OutcomeKind.FAILED)
    copy = saved(bench)
    assert (copy.properties.headers or {})[copy_headers.ATTEMPT] == 2


def test_a_saved_message_without_an_id_says_that_it_may_be_a_repetition() -> None:
    bench = Bench()
    bench.deliver(None, redelivered=True, worn=True)
    copy = saved(bench)
    assert copy.properties.message_id is None
    assert copies.is_repetition(Delivery(1, 2, "", QUEUE, False, copy.properties, b""))
    bench.confirmed(copy.token)
    bench.deliver(None, run=(1, 1), repeats=True)
    (entry,) = bench.settlement.assignments.waiting.values()
    assert entry.maybe_duplicate


def test_what_comes_back_while_its_saved_copy_waits_is_acked() -> None:
    """Its ack was lost with the connection, and it is not saved a second time beside its copy."""
    bench = Bench()
    bench.deliver(redelivered=True, worn=True)
    bench.deliver(redelivered=True, worn=True)
    copy = saved(bench)
    bench.confirmed(copy.token)
    bench.turn()
    surplus = bench.deliver(redelivered=True, worn=True)
    assert bench.acked() == [surplus]
    assert bench.published() == []


@pytest.mark.parametrize("since", ["the copy came", "the connection was lost"])
def test_a_worn_message_may_be_the_copy_itself_and_is_saved_again(since: str) -> None:
    bench = Bench()
    bench.deliver(redelivered=True, worn=True)
    bench.confirmed(saved(bench).token)
    bench.turn()
    if since == "the copy came":
        bench.settlement.drain()
        bench.deliver(run=(1, 1))  # given back
    else:
        bench.lose_connection()
    bench.deliver(run=(1, 1), redelivered=True, worn=True)
    saved(bench)
    assert bench.entry().phase is Phase.SAVING


# ---- faults put in on purpose: the model check finds each ---------------------------------------------------------

ONE = (b"a",)
attach = Settlement._attach


def worn_messages_are_run_like_others(patch: Patch) -> None:
    patch.setattr(Settlement, "_save", lambda self, entry: None)


def a_worn_message_is_forgotten_with_its_connection(patch: Patch) -> None:
    def mutant(self: Settlement) -> None:
        disconnected(self)
        for entry in [entry for entry in self.entries.values() if entry.phase is Phase.SAVING]:
            self._forget(entry)

    disconnected = Settlement.disconnected
    patch.setattr(Settlement, "disconnected", mutant)


def a_worn_message_is_expected_back(patch: Patch) -> None:
    def mutant(self: Settlement, entry: Entry, arrival: Arrival) -> None:
        attach(self, entry, arrival)
        entry.likeness = arrival.likeness

    patch.setattr(Settlement, "_attach", mutant)


def what_a_worker_gives_back_is_given_back_worn(patch: Patch) -> None:
    def mutant(self: Settlement, entry: Entry) -> None:
        entry.worn = False
        give_up(self, entry)

    give_up = Settlement._give_up
    patch.setattr(Settlement, "_give_up", mutant)


def the_copy_is_settled_with_its_original(patch: Patch) -> None:
    def mutant(self: Settlement, entry: Entry, arrival: Arrival) -> None:
        if entry.phase is Phase.SAVING:
            attach(self, entry, arrival)
        else:
            admit_beside(self, entry, arrival)

    admit_beside = Settlement._admit_beside
    patch.setattr(Settlement, "_admit_beside", mutant)


def the_saved_is_acked_before_its_copy_is_confirmed(patch: Patch) -> None:
    def mutant(self: Settlement, entry: Entry) -> None:
        save(self, entry)
        self.decisions.ack(entry.tags, entry.likeness)
        entry.tags.clear()

    save = Settlement._save
    patch.setattr(Settlement, "_save", mutant)


def a_saved_copy_is_a_new_message(patch: Patch) -> None:
    def mutant(entry: Entry, queue: str, token: int) -> Outgoing:
        outgoing = saved_copy(entry, queue, token)
        properties = msgspec.structs.replace(outgoing.properties, message_id="another")
        return msgspec.structs.replace(outgoing, properties=properties)

    saved_copy = copies.saved_copy
    patch.setattr(copies, "saved_copy", mutant)


def a_saved_copy_without_an_id_counts_as_new(patch: Patch) -> None:
    patch.setattr(copies, "is_repetition", lambda delivery: False)


FOUND_IN: dict[Callable[[Patch], None], Laws] = {
    worn_messages_are_run_like_others: Laws(ONE, faults=2, delivery_limit=1),
    a_worn_message_is_forgotten_with_its_connection: Laws(ONE, faults=3, delivery_limit=1),
    a_worn_message_is_expected_back: Laws((b"a", b"a"), ids=False, workers=1, faults=2, delivery_limit=1),
    what_a_worker_gives_back_is_given_back_worn: Laws(ONE, faults=3, delivery_limit=1),
    the_copy_is_settled_with_its_original: Laws(ONE, faults=1, delivery_limit=1),
    the_saved_is_acked_before_its_copy_is_confirmed: Laws(ONE, faults=1, delivery_limit=1),
    a_saved_copy_is_a_new_message: Laws(ONE, faults=2, delivery_limit=1),
    a_saved_copy_without_an_id_counts_as_new: Laws(ONE, ids=False, faults=2, delivery_limit=1),
}


@pytest.mark.parametrize("mutant", FOUND_IN, ids=lambda mutant: mutant.__name__)
def test_the_model_check_finds(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    world = World(FOUND_IN[mutant])
    for event in [event for event in possible(world, faults=False) if event.name == "hello"]:
        happen(world, event)
    with pytest.raises(Broken):
        explore(world, 10, rest_every=2)
