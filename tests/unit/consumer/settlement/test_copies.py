"""Copies look like the original to the handler, carry their place in the order of runs, and say what happened."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.brokers import copy_headers
from supervisor.brokers.base import Delivery, Outgoing
from supervisor.brokers.copy_headers import ATTEMPT, EXCHANGE, QUEUE, ROUND, ROUTING_KEY
from supervisor.brokers.copy_headers import ORIGINAL as ORIGINAL_HEADER
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.messages import Entry, Failure
from supervisor.ledger.base import RowState
from supervisor.messages.message import Properties

FAILURE = Failure("killed", "ended", "p/3", "line 1", None, "SIGKILL", 2.0, 1_700_000_000.5)
ORIGINAL = Properties(
    content_type="text/plain",
    headers={"user": 1, "x-death": [], "x-first-death-queue": "q", "x-delivery-count": 2, "CC": ["a"], "BCC": ["b"]},
    delivery_mode=1,
    priority=4,
    correlation_id="c",
    expiration="60000",
    message_id="m",
    timestamp=99,
    type="t",
    user_id="guest",
    cluster_id="k",
)
RETRY, DEAD, PARKED = RowState.RETRY_PENDING, RowState.DEAD_PENDING, RowState.PARKED_PENDING


def a_delivery(properties: Properties = ORIGINAL) -> Delivery:
    return Delivery(1, 1, "mail", "mail.out", False, properties, b"body")


def a_copy(pending: RowState, delivery: Delivery | None = None, failure: Failure = FAILURE) -> Outgoing:
    entry = Entry(b"k" * 24, "m", 2, 3)
    entry.delivery, entry.failure, entry.pending = delivery or a_delivery(), failure, pending
    return copies.copy_of(entry, "work", "host-a", 17)


def headers_of(outgoing: Outgoing) -> dict[str, Any]:
    assert outgoing.properties.headers is not None
    return outgoing.properties.headers


@pytest.mark.parametrize(
    ("pending", "queue", "run", "delay_s"),
    [(RETRY, "work", (2, 4), 2.0), (DEAD, "work.dead", (3, 1), 0.0), (PARKED, "work.parked", (3, 1), 0.0)],
)
def test_a_copy_knows_its_place_in_the_order_of_runs(
    pending: RowState, queue: str, run: tuple[int, int], delay_s: float
) -> None:
    copy = a_copy(pending)
    assert (copy.token, copy.exchange, copy.routing_key, copy.delay_s, copy.body) == (17, "", queue, delay_s, b"body")
    back = a_delivery(copy.properties)
    assert copies.stamp(back, "work") == run
    assert copies.stamp(back, "other") is None


@pytest.mark.parametrize("pending", [RETRY, DEAD, PARKED])
def test_a_copy_is_persistent_and_leaves_out_what_would_be_refused_or_acted_on_again(pending: RowState) -> None:
    properties = a_copy(pending).properties
    assert properties.delivery_mode == 2
    assert (properties.expiration, properties.user_id, properties.cluster_id) == (None, None, None)
    left = [name for name in properties.headers or {} if not name.startswith(copy_headers.PREFIX)]
    assert left == ["user"]


def test_everything_else_is_carried() -> None:
    properties = a_copy(DEAD).properties
    same = ("content_type", "priority", "correlation_id", "message_id", "timestamp", "type")
    assert [getattr(properties, name) for name in same] == [getattr(ORIGINAL, name) for name in same]


def test_exchange_and_routing_key_are_those_of_the_first_publication_through_copies_of_copies() -> None:
    copy = a_copy(RETRY)
    again = a_copy(DEAD, Delivery(1, 2, "", "work", False, copy.properties, b"body"))
    for made in (copy, again):
        back = Delivery(1, 3, "", "work", False, made.properties, b"body")
        assert copies.origin(back, "work") == ("mail", "mail.out")
    assert copies.origin(back, "other") == ("", "work")


def test_a_message_without_an_id_gets_the_entrys() -> None:
    bare = a_delivery(msgspec.structs.replace(ORIGINAL, message_id=None))
    assert a_copy(RETRY, bare).properties.message_id == "m"


def test_dead_and_parked_copies_say_what_happened_and_retry_copies_do_not() -> None:
    told = {name.removeprefix(copy_headers.PREFIX): value for name, value in headers_of(a_copy(DEAD)).items()}
    told = {name: told[name] for name in told if f"{copy_headers.PREFIX}{name}" not in copy_headers.STAMPS}
    assert told == {
        "user": 1,
        "cause": "killed",
        "reason": "ended",
        "attempts": 3,
        "signal": "SIGKILL",
        "worker": "p/3",
        "host": "host-a",
        "at": "2023-11-14T22:13:20.500Z",
        "stack": "line 1",
    }
    ours = {name for name in headers_of(a_copy(RETRY)) if name.startswith(copy_headers.PREFIX)}
    assert ours == {QUEUE, ROUND, ATTEMPT, EXCHANGE, ROUTING_KEY, ORIGINAL_HEADER}


def test_of_a_long_stack_the_end_is_kept() -> None:
    long = msgspec.structs.replace(FAILURE, stack="x" * 100_000 + "ValueError", reason="r" * 100_000)
    told = headers_of(a_copy(DEAD, failure=long))
    assert len(told["x-preforkd-stack"]) == len(told["x-preforkd-reason"]) == copies.STACK_CHARACTERS
    assert told["x-preforkd-stack"].endswith("ValueError")


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {ROUND: 1, ATTEMPT: 2},
        {QUEUE: "other", ROUND: 1, ATTEMPT: 2},
        {QUEUE: "work", ROUND: 0, ATTEMPT: 2},
        {QUEUE: "work", ROUND: 1},
        {QUEUE: "work", ROUND: True, ATTEMPT: 1},
        {QUEUE: "work", ROUND: "1", ATTEMPT: "2"},
        {QUEUE: "work", ROUND: copies.MOST_RUNS + 1, ATTEMPT: 1},
        {QUEUE: "work", ROUND: 1, ATTEMPT: copies.MOST_RUNS + 1},
    ],
    ids=str,
)
def test_headers_that_are_not_ours_are_not_trusted(headers: dict[str, Any] | None) -> None:
    assert copies.stamp(a_delivery(Properties(headers=headers)), "work") is None


def test_the_handler_sees_a_copy_without_our_headers() -> None:
    back = Delivery(1, 1, "", "work", False, a_copy(RETRY).properties, b"body")
    assert copies.as_handled(back, "work") == ORIGINAL
    foreign = a_delivery(Properties(headers={QUEUE: "other", "user": 1}))
    assert copies.as_handled(foreign, "work").headers == {QUEUE: "other", "user": 1}


def test_back_from_the_dead_only_what_orders_runs_is_kept() -> None:
    dead = a_copy(DEAD).properties
    back = copy_headers.without_diagnosis(msgspec.structs.replace(dead, expiration="1", user_id="u"))
    assert set(back.headers or {}) == {"user", QUEUE, ROUND, ATTEMPT, EXCHANGE, ROUTING_KEY, ORIGINAL_HEADER}
    assert (back.expiration, back.user_id) == (None, None)


@pytest.mark.parametrize("missing", ["delivery", "failure"])
def test_a_copy_needs_message_and_reason(missing: str) -> None:
    entry = Entry(b"k" * 24, "m", 1, 1)
    entry.delivery, entry.failure, entry.pending = a_delivery(), FAILURE, DEAD
    setattr(entry, missing, None)
    with pytest.raises(ValueError, match="a copy needs"):
        copies.copy_of(entry, "work", "h", 1)


def test_an_order_needs_the_message() -> None:
    with pytest.raises(ValueError, match="delivery"):
        copies.order_of(Entry(b"k" * 24, "m", 1, 1), "work")


@pytest.mark.parametrize("pending", [DEAD, PARKED])
def test_a_reduced_copy_keeps_body_id_stamps_and_diagnosis_and_has_the_rest_as_text(pending: RowState) -> None:
    whole = a_copy(pending)
    assert copies.is_reducible(whole)
    bare = copies.reduced(whole, "PRECONDITION_FAILED")
    assert not copies.is_reducible(bare)
    assert (bare.token, bare.routing_key, bare.body) == (whole.token, whole.routing_key, whole.body)
    assert (bare.properties.message_id, bare.properties.content_type) == ("m", "text/plain")
    assert (bare.properties.priority, bare.properties.correlation_id) == (None, None)
    assert all(name.startswith(copy_headers.PREFIX) for name in headers_of(bare))
    assert copies.stamp(a_delivery(bare.properties), "work") == (3, 1)
    assert headers_of(bare)["x-preforkd-cause"] == headers_of(whole)["x-preforkd-cause"]
    assert headers_of(bare)[copy_headers.REDUCED] == "PRECONDITION_FAILED"
    for words in ("'user': 1", "'correlation_id': 'c'", "'user_id': 'guest'"):
        assert words in headers_of(bare)[copy_headers.LEFT_OUT]


def test_what_a_reduced_copy_says_of_long_headers_is_cut() -> None:
    delivery = a_delivery(Properties(message_id="m", headers={"long": "x" * 100_000}))
    bare = copies.reduced(a_copy(DEAD, delivery), "why " * 10_000)
    assert max(len(value) for value in headers_of(bare).values() if isinstance(value, str)) <= copies.STACK_CHARACTERS


def test_a_copy_for_another_attempt_and_a_saved_one_are_not_reducible() -> None:
    assert not copies.is_reducible(a_copy(RETRY))
    entry = Entry(b"k" * 24, "m", 2, 3)
    entry.delivery = a_delivery()
    assert not copies.is_reducible(copies.saved_copy(entry, "work", 17))
