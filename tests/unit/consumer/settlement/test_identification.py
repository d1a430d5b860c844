"""A message, its redeliveries and all its copies are one message; another one is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import EXPIRES
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.identification import Arrivals
from supervisor.consumer.settlement.messages import Entry, Failure
from supervisor.ledger.base import RowState
from supervisor.messages.identity import is_given
from supervisor.messages.message import Properties

ORIGINAL = Properties(
    content_type="text/plain",
    headers={"user": [1, {"a": None}], "CC": ["x"]},
    delivery_mode=1,
    priority=3,
    expiration="500",
    message_id="m",
    timestamp=7,
    user_id="guest",
)


def arrivals(id_header: str = "", *urls: str) -> Arrivals:
    broker = BrokerConfig(urls=urls) if urls else BrokerConfig()
    return Arrivals(PoolConfig("p", "work", "h:h", id_header=id_header), broker)


def a_delivery(properties: Properties = ORIGINAL, body: bytes = b"body", **changes: Any) -> Delivery:
    delivery = Delivery(1, 1, "mail", "mail.out", False, properties, body)
    return msgspec.structs.replace(delivery, **changes)


def copy_of(delivery: Delivery, pending: RowState, id: str = "m") -> Delivery:
    entry = Entry(b"k" * 24, id, 1, 1)
    entry.delivery, entry.failure, entry.pending = delivery, Failure("failed", "no"), pending
    outgoing = copies.copy_of(entry, "work", "host", 1)
    return Delivery(2, 5, "", "work", False, outgoing.properties, outgoing.body)


@pytest.mark.parametrize(
    ("pending", "run"),
    [(RowState.RETRY_PENDING, (1, 2)), (RowState.DEAD_PENDING, (2, 1)), (RowState.PARKED_PENDING, (2, 1))],
)
@pytest.mark.parametrize("id", ["m", None], ids=["with an id", "without"])
def test_i2_a_copy_is_the_same_message_and_a_later_run(id: str | None, pending: RowState, run: tuple[int, int]) -> None:
    known = arrivals()
    original = a_delivery(msgspec.structs.replace(ORIGINAL, message_id=id))
    first = known.identify(original)
    copy = known.identify(copy_of(original, pending, first.id))
    assert copy.key == first.key
    assert (copy.id, copy.has_id, copy.stamped) == (first.id, True, True)
    assert ((first.round, first.attempt), (copy.round, copy.attempt)) == ((1, 1), run)


@pytest.mark.parametrize(
    "expires", [1_800_000_000, "2027-01-15T08:00:00Z", datetime(2027, 1, 15, 8, tzinfo=UTC), [], None]
)
def test_a_message_that_is_sent_again_with_another_expiry_is_the_same_message(expires: Any) -> None:
    known = arrivals()
    headers = (ORIGINAL.headers or {}) | {EXPIRES: expires}
    sent_again = known.identify(a_delivery(msgspec.structs.replace(ORIGINAL, headers=headers)))
    assert (sent_again.key, sent_again.expires) == (known.identify(a_delivery()).key, expires)


def test_copies_keep_the_expiry_and_the_header_that_a_handler_sees() -> None:
    known = arrivals()
    properties = msgspec.structs.replace(ORIGINAL, headers={EXPIRES: 1_800_000_000})
    for pending in (RowState.RETRY_PENDING, RowState.DEAD_PENDING):
        copy = copy_of(a_delivery(properties), pending)
        assert known.identify(copy).expires == 1_800_000_000
        assert copies.as_handled(copy, "work").headers == {EXPIRES: 1_800_000_000}


def test_a_redelivery_on_another_epoch_is_the_same_message() -> None:
    known = arrivals()
    again = a_delivery(epoch=9, tag=4, redelivered=True)
    assert known.identify(again).key == known.identify(a_delivery()).key


@pytest.mark.parametrize(
    "other",
    [
        a_delivery(body=b"other"),
        a_delivery(msgspec.structs.replace(ORIGINAL, type="t")),
        a_delivery(msgspec.structs.replace(ORIGINAL, headers={"user": 2})),
    ],
    ids=["body", "type", "headers"],
)
def test_the_same_id_with_other_content_is_another_message_under_the_same_id(other: Delivery) -> None:
    known = arrivals()
    first, second = known.identify(a_delivery()), known.identify(other)
    assert first.key != second.key
    assert first.key[:16] == second.key[:16]


def test_ids_are_scoped_by_vhost() -> None:
    one, two = arrivals("", "amqp://host/a"), arrivals("", "amqp://host/b")
    same = arrivals("", "amqp://other:5673/a")
    key = one.identify(a_delivery()).key
    assert key[:16] != two.identify(a_delivery()).key[:16]
    assert key == same.identify(a_delivery()).key
    assert (
        arrivals("", "amqp://h").identify(a_delivery()).key == arrivals("", "amqp://h/%2F").identify(a_delivery()).key
    )


@pytest.mark.parametrize(("value", "id"), [("abc", "abc"), (17, "17"), (b"raw", "raw"), (b"\xff", "\\xff")])
def test_the_id_may_be_in_a_header(value: object, id: str) -> None:
    properties = Properties(headers={"x-id": value}, message_id="m")
    assert arrivals("x-id").identify(a_delivery(properties)).id == id
    assert arrivals("x-other").identify(a_delivery(properties)).id == "m"


@pytest.mark.parametrize("id", [None, ""])
def test_without_an_id_each_delivery_gets_one_of_its_own_and_its_likeness(id: str | None) -> None:
    known = arrivals()
    bare = msgspec.structs.replace(ORIGINAL, message_id=id)
    first, second = known.identify(a_delivery(bare)), known.identify(a_delivery(bare, redelivered=True))
    assert is_given(first.id)
    assert first.id != second.id
    assert not first.has_id
    assert first.likeness == second.likeness != b""


@pytest.mark.parametrize(
    "change", [{"exchange": "x"}, {"routing_key": "x"}, {"body": b"x"}, {"properties": Properties(expiration="9")}]
)
def test_likeness_is_everything_that_can_be_seen(change: dict[str, Any]) -> None:
    known, bare = arrivals(), a_delivery(Properties())
    assert known.identify(bare).likeness != known.identify(msgspec.structs.replace(bare, **change)).likeness


def test_with_an_id_there_is_no_likeness() -> None:
    assert arrivals().identify(a_delivery()).likeness == b""


@pytest.mark.parametrize("id", ["m", "preforkd-", "preforkd-12", "preforkd-" + "g" * 32, "x" + "preforkd-" + "0" * 32])
def test_a_users_id_is_not_taken_for_ours(id: str) -> None:
    assert not is_given(id)
