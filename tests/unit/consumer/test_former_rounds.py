"""What ended the rounds of a message that was put back is in its later letters, bounded, and no handler sees it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import FORMER, FORMER_ROUNDS, PREFIX, QUEUE, ROUND, former_rounds, retry_copy
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.messages import Entry, Failure
from supervisor.ledger.base import RowState
from supervisor.messages.identity import content_digest
from supervisor.messages.message import Properties

FIRST = Failure("killed", "ended", "p/3", "line 1", None, "SIGKILL", 0.0, 1_700_000_000.5)
PUBLISHED = Properties(message_id="m", headers={"user": 1, "CC": ["a"]})
RETRY, DEAD, PARKED = RowState.RETRY_PENDING, RowState.DEAD_PENDING, RowState.PARKED_PENDING


def a_delivery(properties: Properties = PUBLISHED) -> Delivery:
    return Delivery(1, 1, "mail", "mail.out", False, properties, b"body")


def after(run: tuple[int, int], delivery: Delivery, pending: RowState, failure: Failure = FIRST) -> Delivery:
    """The copy that is made when this run of the message has failed, as a delivery."""
    entry = Entry(b"k" * 24, "m", *run)
    entry.delivery, entry.failure, entry.pending = delivery, failure, pending
    return msgspec.structs.replace(delivery, properties=copies.copy_of(entry, "work", "host-a", 1).properties)


def put_back(letter: Delivery) -> Delivery:
    return msgspec.structs.replace(letter, properties=retry_copy(letter, "work").properties)


def told(delivery: Delivery) -> list[dict[str, Any]]:
    return former_rounds(delivery.properties.headers)


@pytest.mark.parametrize("given_up", [DEAD, PARKED])
def test_a_second_letter_tells_how_the_first_round_ended(given_up: RowState) -> None:
    first = after((1, 3), a_delivery(), given_up)
    assert told(first) == []

    retried = after((2, 1), put_back(first), RETRY, Failure("failed", "again", "p/1"))
    second = after((2, 2), retried, DEAD, Failure("timeout", "too long", "p/2", status=124))

    assert told(second) == [
        {
            "round": 1,
            "cause": "killed",
            "reason": "ended",
            "attempts": 3,
            "signal": "SIGKILL",
            "worker": "p/3",
            "host": "host-a",
            "at": "2023-11-14T22:13:20.500Z",
            "stack": "line 1",
        }
    ]
    assert (second.properties.headers or {})[f"{PREFIX}cause"] == "timeout"


def test_a_letter_that_a_shovel_moved_back_is_told_of_like_one_that_was_retried() -> None:
    letter = after((1, 3), a_delivery(), DEAD)
    assert told(after((2, 1), letter, DEAD)) == told(after((2, 1), put_back(letter), DEAD))


def test_a_copy_that_saves_a_message_keeps_its_former_rounds() -> None:
    back = put_back(after((1, 3), a_delivery(), DEAD))
    entry = Entry(b"k" * 24, "m", 2, 1)
    entry.delivery = back
    assert former_rounds(copies.saved_copy(entry, "work", 1).properties.headers) == told(back) != []


def test_of_many_rounds_the_last_ones_are_told() -> None:
    delivery = a_delivery()
    for number in range(1, 7):
        letter = after((number, 1), delivery, DEAD, Failure("failed", f"reason {number}"))
        delivery = put_back(letter)

    assert [(facts["round"], facts["reason"]) for facts in told(letter)] == [
        (number, f"reason {number}") for number in (3, 4, 5)
    ]
    assert len((delivery.properties.headers or {})[FORMER]) == FORMER_ROUNDS


def test_what_is_told_of_a_round_is_short() -> None:
    long = Failure("failed", "r" * 9000, "p/0", "s" * 9000 + "ValueError")
    (facts,) = told(put_back(after((1, 1), a_delivery(), DEAD, long)))
    assert (len(facts["reason"]), len(facts["stack"])) == (500, 1500)
    assert facts["stack"].endswith("ValueError")


def test_neither_the_handler_nor_the_digest_sees_former_rounds() -> None:
    back = put_back(after((1, 1), a_delivery(), DEAD))
    assert told(back) != []
    assert copies.as_handled(back, "work") == PUBLISHED
    assert content_digest(back.properties, back.body) == content_digest(PUBLISHED, back.body)


def test_a_reduced_letter_goes_without_its_former_rounds() -> None:
    entry = Entry(b"k" * 24, "m", 2, 1)
    entry.delivery, entry.failure, entry.pending = put_back(after((1, 3), a_delivery(), DEAD)), FIRST, DEAD
    whole = copies.copy_of(entry, "work", "host-a", 1)
    assert former_rounds(whole.properties.headers) != []
    assert FORMER not in (copies.reduced(whole, "PRECONDITION_FAILED").properties.headers or {})


def test_a_header_of_that_name_on_a_message_that_is_no_copy_of_ours_is_the_publishers() -> None:
    forged = {FORMER: [{"round": 7}], f"{PREFIX}cause": "x"}
    for headers in (forged, forged | {QUEUE: "other", ROUND: 2}):
        published = Properties(message_id="m", headers=headers)
        letter = after((1, 1), a_delivery(published), DEAD)
        assert told(letter) == []
        assert copies.as_handled(put_back(letter), "work") == published
        foreign = retry_copy(a_delivery(published), "work").properties.headers or {}
        assert FORMER not in foreign


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, []),
        ("text", []),
        ({"round": 1}, []),
        (["text", 7, None], []),
        ([{"round": True, "cause": b"x", "stack": ["x"], "more": "x"}], [{}]),
        ([{"round": 1, "cause": "c" * 9000}], [{"round": 1, "cause": "c" * 200}]),
        ([{"round": number} for number in range(100)], [{"round": 97}, {"round": 98}, {"round": 99}]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_whatever_the_header_holds_is_read_as_a_few_short_facts(value: Any, read: list[dict[str, Any]]) -> None:
    assert former_rounds({FORMER: value}) == read
