"""A message is the same in every run: however often it was copied, its handler sees what the publisher sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pika.spec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.brokers import copy_headers
from supervisor.brokers.amqp import tables
from supervisor.brokers.amqp.messages import decode, encode
from supervisor.brokers.base import Delivery
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.identification import Arrivals
from supervisor.consumer.settlement.messages import Entry, Failure
from supervisor.ledger.base import RowState
from supervisor.messages.message import Properties, UnreadableHeaders

WHY = Failure("failed", "no", "p/0", "Traceback", at_s=1.0)
ODD = (b"\xff\xfe" * 32).decode("utf-8", "backslashreplace")  # 64 bytes that are no UTF-8, as they are received
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20) | st.just(ODD)
BROKERS = ["CC", "x-death", "x-first-death-queue", "x-delivery-count"]
OURS = [copy_headers.QUEUE, copy_headers.ORIGINAL, copy_headers.FORMER, f"{copy_headers.PREFIX}cause"]
NAMES = st.sampled_from(["user", "é", ODD, *BROKERS, *OURS])
SCALARS = st.none() | st.booleans() | st.integers(-(2**31), 2**63 - 1) | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS | st.binary(max_size=5) | st.just(Decimal("1.50")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT.filter(lambda key: key != ODD), inner, max_size=3),
)
PROPERTIES = st.builds(
    Properties,
    **{name: st.none() | TEXT for name in Properties.__struct_fields__},
) | st.builds(
    Properties,
    headers=st.none() | st.dictionaries(NAMES | TEXT, VALUES, max_size=5),
    delivery_mode=st.none() | st.sampled_from([0, 1, 2, 255]),
    priority=st.none() | st.integers(0, 255),
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    message_id=st.none() | TEXT,
    expiration=st.none() | st.just("60000"),
    user_id=st.none() | TEXT,
    cluster_id=st.none() | TEXT,
)


def travelled(properties: Properties) -> Properties:
    """As it is after a way over the wire."""
    tables.install()
    encoded = encode(properties).data
    return decode(int.from_bytes(encoded[:2], "big"), encoded[2:])


def fields_of(properties: Properties) -> dict[str, Any]:
    return msgspec.structs.asdict(properties)


def next_run(delivery: Delivery, pending: RowState, run: tuple[int, int], id: str) -> Delivery:
    """How the message comes after this run has failed; a dead letter after an operator has retried it."""
    entry = Entry(b"k" * 24, id, *run)
    entry.delivery, entry.failure, entry.pending = delivery, WHY, pending
    copy = copies.copy_of(entry, "work", "host", 1)
    properties = travelled(copy.properties)
    back = msgspec.structs.replace(delivery, exchange="", routing_key="work", properties=properties)
    if pending is RowState.RETRY_PENDING:  # what the broker writes on what has expired
        headers = (properties.headers or {}) | {"x-death": [{"count": 1}], "x-first-death-queue": "work.retry.100"}
        return msgspec.structs.replace(back, properties=msgspec.structs.replace(properties, headers=headers))
    return msgspec.structs.replace(back, properties=travelled(copy_headers.retry_copy(back, "work").properties))


def arrivals(**pool: Any) -> Arrivals:
    return Arrivals(PoolConfig("p", "work", "h:h", **pool), BrokerConfig())


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(PROPERTIES, st.lists(st.sampled_from(RowState), min_size=1, max_size=4))
def test_a_message_is_the_same_in_every_run(properties: Properties, states: list[RowState]) -> None:
    if not isinstance(properties.headers, dict | None) or isinstance(properties.priority, str):
        properties = msgspec.structs.replace(properties, headers=None, priority=None)
    if isinstance(properties.delivery_mode, str) or isinstance(properties.timestamp, str):
        properties = msgspec.structs.replace(properties, delivery_mode=None, timestamp=None)
    delivery = Delivery(1, 1, "topic", "a.b", False, properties, b"body")
    first = identified = arrivals().identify(delivery)
    if first.stamped or first.unreadable:
        return  # a forged stamp, or nothing that a handler could see
    for state in states:
        pending = state if state.open and state is not RowState.DISPATCHED else RowState.RETRY_PENDING
        delivery = next_run(delivery, pending, (identified.round, identified.attempt), first.id)
        identified = arrivals().identify(delivery)
        assert identified.stamped
        assert (identified.id, identified.key) == (first.id, first.key)
        assert fields_of(copies.as_handled(delivery, "work")) == fields_of(properties)
        assert copies.origin(delivery, "work") == ("topic", "a.b")


def test_an_id_from_a_header_stays_the_id() -> None:
    delivery = Delivery(1, 1, "", "work", False, Properties(headers={"order": "o" * 300}), b"")
    known = arrivals(id_header="order")
    back = next_run(delivery, RowState.RETRY_PENDING, (1, 1), "o" * 300)
    assert known.identify(back).id == known.identify(delivery).id == "o" * 300


def test_a_copy_has_an_id_of_its_own_that_its_handler_does_not_see() -> None:
    back = next_run(Delivery(1, 1, "", "work", False, Properties(), b""), RowState.RETRY_PENDING, (1, 1), "given")
    assert back.properties.message_id == "given"
    assert copies.as_handled(back, "work").message_id is None


def test_a_dead_letter_of_another_queue_keeps_its_diagnosis() -> None:
    headers = {
        copy_headers.QUEUE: "mail",
        copy_headers.ROUND: 2,
        copy_headers.ATTEMPT: 1,
        f"{copy_headers.PREFIX}cause": "failed",
    }
    delivery = Delivery(1, 1, "", "work", False, Properties(headers=headers, message_id="m"), b"")
    back = next_run(delivery, RowState.RETRY_PENDING, (1, 1), "m")
    assert copies.as_handled(back, "work").headers == headers


@pytest.mark.parametrize(
    "forged",
    [
        None,
        7,
        "text",
        [],
        {"headers": "no list"},
        {"headers": [["name"], ["a", 1, 2], [1, 2], "text", [None, 1]]},
        {"message_id": 7, "priority": "high", "timestamp": True, "user_id": b"bytes"},
        {"no_such_property": 1, "headers": None},
    ],
    ids=str,
)
def test_what_another_program_has_written_there_changes_no_kind_of_a_property(forged: Any) -> None:
    properties = Properties(headers={"user": 1}, message_id="m", timestamp=5)
    seen = copies.restored(properties, forged)
    assert seen.headers == {"user": 1}
    assert (seen.message_id, seen.timestamp, seen.priority, seen.user_id) == ("m", 5, None, None)


def test_a_header_too_deep_to_be_read_again_is_left_out() -> None:
    deep: Any = 1
    for _ in range(90):
        deep = [deep]
    _, lacking = copies.without(Properties(headers={"x-death": deep, "CC": ["a"]}, delivery_mode=2))
    assert lacking == {"headers": [["CC", ["a"]]]}


def test_headers_that_could_not_be_read_are_in_the_dead_letter_as_they_were() -> None:
    entry = Entry(b"k" * 24, "m", 1, 1)
    unreadable = Properties(headers=UnreadableHeaders(b"\0\0\0\1Q", "no such kind"))
    entry.delivery = Delivery(1, 1, "", "work", False, unreadable, b"body")
    entry.failure, entry.pending = WHY, RowState.DEAD_PENDING
    copy = copies.copy_of(entry, "work", "host", 1)
    assert (copy.properties.headers or {})[copy_headers.UNREADABLE_HEADERS] == b"\0\0\0\1Q"
    assert copy.body == b"body"


def test_a_property_of_the_basic_class_is_text_or_a_number() -> None:
    numbers = {"delivery_mode", "priority", "timestamp"}
    assert {name for name in vars(pika.spec.BasicProperties()) if name in numbers} == copies._NUMBERS
