"""Properties both ways: nothing is lost that AMQP can say, and nothing keeps a copy from being made."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pika.spec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.brokers.amqp import tables
from supervisor.brokers.amqp.messages import NOTE_HEADER, decode, encode, encoded, to_properties
from supervisor.brokers.copy_headers import FORMER
from supervisor.messages.message import PROPERTIES_ROOM_BYTES, Properties

FULL = Properties(
    content_type="text/plain",
    content_encoding="utf-8",
    headers={"f": 0.5, "d": Decimal("1.50"), "b": b"\xff", "n": {"l": [1, None]}},
    delivery_mode=2,
    priority=9,
    correlation_id="c",
    reply_to="r",
    expiration="1000",
    message_id="m",
    timestamp=1_700_000_000,
    type="t",
    user_id="u",
    app_id="a",
    cluster_id="k",
)


@pytest.fixture(autouse=True)
def _installed() -> None:
    tables.install()


def _through(properties: Properties) -> Properties:
    received = pika.spec.BasicProperties()
    received.decode(encode(properties).data)
    return to_properties(received)


def test_every_field_survives() -> None:
    assert _through(FULL) == FULL


def test_a_copy_is_persistent_whatever_it_was() -> None:
    assert _through(Properties(delivery_mode=1)).delivery_mode == 2


def test_received_properties_compare_as_what_was_sent() -> None:
    sent = encode(FULL)
    received = pika.spec.BasicProperties()
    received.decode(sent.data)

    assert encoded(received) == sent.data


@pytest.mark.parametrize(
    "bad",
    [2**70, object(), Decimal("1e99"), [1, {"deep": {2**70}}], "\ud800"],
    ids=["integer", "object", "decimal", "nested", "surrogate"],
)
def test_a_header_that_cannot_be_encoded_is_left_out_and_named(bad: object) -> None:
    headers = _headers(Properties(headers={"good": 1.5, "bad": bad}, message_id="m"))

    assert headers["good"] == 1.5
    assert "bad" not in headers
    assert "'bad'" in headers[NOTE_HEADER]


def test_a_header_name_that_is_too_long_is_left_out() -> None:
    headers = _headers(Properties(headers={"x" * 300: 1, "good": 2}))

    assert set(headers) == {"good", NOTE_HEADER}


@pytest.mark.parametrize(
    "field",
    [{"timestamp": -1}, {"timestamp": 2**70}, {"priority": 256}, {"app_id": "x" * 256}, {"type": "\ud800"}],
    ids=repr,
)
def test_a_property_that_cannot_be_encoded_is_left_out_and_named(field: dict[str, Any]) -> None:
    (name,) = field
    copy = _through(Properties(message_id="m", **field))

    assert getattr(copy, name) is None
    assert copy.message_id == "m"
    assert copy.headers is not None
    assert name in copy.headers[NOTE_HEADER]


def test_headers_that_do_not_fit_into_a_frame_lose_the_largest() -> None:
    properties = Properties(headers={"small": "s", "huge": "x" * 200_000, "large": "y" * 30_000})

    assert len(encode(properties).data) < PROPERTIES_ROOM_BYTES
    headers = _headers(properties)
    assert set(headers) == {"small", "large", NOTE_HEADER}


def test_what_is_told_of_former_rounds_is_left_out_before_anything_else() -> None:
    former = [{"round": 1, "stack": "s" * 1500}]
    for own in ({"large": "y" * 119_000}, {"large": "y" * 119_000, "bad": object()}):
        headers = _headers(Properties(headers={FORMER: former, "small": "s", **own}))
        assert headers.keys() - {"large"} == {"small", NOTE_HEADER}
        assert FORMER in headers[NOTE_HEADER]
    assert _headers(Properties(headers={FORMER: former, "large": "y" * 119_000}))["large"] == "y" * 119_000
    assert _headers(Properties(headers={FORMER: former, "large": "y" * 100_000})).keys() == {FORMER, "large"}


def test_a_good_copy_carries_no_note() -> None:
    assert _through(Properties(message_id="m")).headers is None


def _headers(properties: Properties) -> dict[str, Any]:
    headers = _through(properties).headers
    assert headers is not None
    return headers


def _made_of(read: Callable[[], Properties]) -> str:
    """What comes out, or the kind of error; as text, since not a number equals nothing."""
    try:
        return repr(read())
    except Exception as error:  # whatever these bytes are to pika
        return type(error).__name__


@settings(deadline=None, max_examples=500)
@given(st.integers(0, 2**15 - 1), st.binary(max_size=60))
def test_any_bytes_are_read_as_pika_reads_them(flags: int, data: bytes) -> None:
    tables.install()
    flags *= 2  # the lowest says that more flags follow, which is left to pika
    theirs = pika.spec.BasicProperties()

    read = _made_of(lambda: to_properties(theirs.decode(flags.to_bytes(2, "big") + data)))
    assert _made_of(lambda: decode(flags, data)) == read


def test_every_property_is_read_as_pika_reads_it() -> None:
    data = encode(FULL).data

    assert decode(int.from_bytes(data[:2], "big"), data[2:]) == _through(FULL) == FULL
