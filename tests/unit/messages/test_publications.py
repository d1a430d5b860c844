"""What can be published: every property and kind of header at its bounds, and one step beyond them."""

from __future__ import annotations

import enum
import json
import types
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from supervisor import Message
from supervisor.messages.message import Properties, Publication
from supervisor.messages.publications import DEEPEST, LARGEST_BODY_BYTES, LARGEST_RUN_BYTES, sendable


class Name(str):
    """A str with ideas of its own."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Colour(enum.StrEnum):
    """A str, too."""

    RED = "red"


class Level(enum.IntEnum):
    """An int."""

    HIGH = 9


class Ratio(float):
    """A float."""


class Scalar:
    """As NumPy's scalars are: of no base of Python's, without dimensions, and `item()` says what they are."""

    ndim = 0

    def __init__(self, value: object) -> None:
        self._value = value

    def item(self) -> object:
        """The value as Python has it."""
        return self._value


def send(exchange: Any = "", routing_key: Any = "q", body: bytes = b"", **properties: Any) -> Publication:
    return sendable(Publication(exchange, routing_key, Properties(**properties), body))


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(depth):
        table = {"a": table}
    return table


def looped() -> dict[str, Any]:
    table: dict[str, Any] = {"a": [1]}
    table["a"].append(table)
    return table


OTHERS = {"headers", "delivery_mode", "priority", "timestamp", "expiration"}
SHORT = [name for name in Properties.__struct_fields__ if name not in OTHERS]


@pytest.mark.parametrize("name", [*SHORT, "exchange", "routing_key"])
def test_short_strings_have_255_bytes_in_utf_8(name: str) -> None:
    send(**{name: "é" * 127 + "e"})
    with pytest.raises(ValueError, match=rf"{name}: 256 bytes in UTF-8, AMQP allows 255"):
        send(**{name: "é" * 128})
    with pytest.raises(ValueError, match=rf"{name}: .*surrogates"):
        send(**{name: "\ud800"})
    with pytest.raises(ValueError, match=rf"{name}: Expected `str`, got `int`"):
        send(**{name: 5})


NUMBERS = {"priority": (0, 255), "delivery_mode": (1, 2), "timestamp": (0, 2**64 - 1)}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_have_their_bounds(name: str) -> None:
    least, most = NUMBERS[name]
    for value in (least, most, Scalar(least)):
        assert getattr(send(**{name: value}).properties, name) in (least, most)
    for value in (least - 1, most + 1):
        with pytest.raises(ValueError, match=f"{name}: {value} is not between {least} and {most}"):
            send(**{name: value})
    for value in ("1", 1.0, True, datetime.now(UTC)):
        with pytest.raises(ValueError, match=f"{name}: Expected `int`"):
            send(**{name: value})


@pytest.mark.parametrize("text", ["0", "60000", "4294967295"])
def test_an_expiration_is_a_number_of_milliseconds_as_a_string(text: str) -> None:
    assert send(expiration=text).properties.expiration == text


@pytest.mark.parametrize(
    "value", ["soon", "", "-1", "+5", "1.5", " 5", "5 ", "٣", "4294967296", "1" * 200, 60_000, 1.0]
)
def test_any_other_expiration_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expiration"):
        send(expiration=value)


MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

TAKEN: dict[str, tuple[Any, Any]] = {
    "none": (None, None),
    "true": (True, True),
    "the largest integer": (2**63 - 1, 2**63 - 1),
    "the least integer": (-(2**63), -(2**63)),
    "a float": (0.1, 0.1),
    "the largest decimal": (Decimal("2147483647"), Decimal(2147483647)),
    "the least decimal": (Decimal("-2147483647"), Decimal(-2147483647)),
    "a decimal of many places": (Decimal("1E-255"), Decimal("1E-255")),
    "a decimal in thousands": (Decimal("2E+9"), Decimal(2_000_000_000)),
    "a zero of many places": (Decimal("0E-400"), Decimal(0)),
    "a decimal with zeros behind it": (Decimal("1.5" + "0" * 300), Decimal("1.5")),
    "text": ("grüße\0", "grüße\0"),
    "text of a subclass": (Name("word"), "word"),
    "an enum of text": (Colour.RED, "red"),
    "an enum of integers": (Level.HIGH, 9),
    "a float of a subclass": (Ratio(0.5), 0.5),
    "a scalar of NumPy's kind": (Scalar(7), 7),
    "a truth of NumPy's kind": (Scalar(False), False),
    "bytes": (b"\xff", b"\xff"),
    "a bytearray": (bytearray(b"\xff"), b"\xff"),
    "a moment": (MOMENT, MOMENT),
    "a moment without a zone": (MOMENT.replace(tzinfo=None), MOMENT),
    "a moment of another zone": (MOMENT.astimezone(timezone(timedelta(hours=5))), MOMENT),
    "the first moment": (datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)),
    "the last moment": (datetime(9999, 12, 31, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)),
    "a date": (date(2026, 1, 2), "2026-01-02"),
    "a UUID": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "a list": ([1, ["a", None]], [1, ["a", None]]),
    "a tuple": ((1, (2,)), [1, [2]]),
    "a set": ({1}, [1]),
    "a table": ({"a": {"": 1}}, {"a": {"": 1}}),
    "a table of a subclass": (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "a table that cannot be changed": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "a name of 255 bytes": ({"k" * 255: 1}, {"k" * 255: 1}),
    "a table at the deepest": (nested(DEEPEST - 2), nested(DEEPEST - 2)),
}


@pytest.mark.parametrize("case", TAKEN)
def test_header_values_are_taken_as_what_they_are(case: str) -> None:
    given, taken = TAKEN[case]

    headers = send(headers={"h": given}).properties.headers

    assert headers == {"h": taken}
    assert type(headers["h"]) is type(taken)
    msgspec.msgpack.encode(headers)  # no type of the user's is left


REFUSED: dict[str, tuple[Any, str]] = {
    "infinity": (float("inf"), "not finite"),
    "minus infinity, of a subclass": (Ratio("-inf"), "not finite"),
    "no number, deep": ([{"a": [float("nan")]}], r"headers\['h'\]\['a'\]: nan is not finite"),
    "no number, of NumPy's kind": (Scalar(float("nan")), "not finite"),
    "an integer beyond 64 bits": (2**63, "beyond 64 bits"),
    "an integer beyond 64 bits, below": (-(2**63) - 1, "beyond 64 bits"),
    "a decimal of 32 bits": (Decimal(2**31), "decimals"),
    "a decimal of 256 places": (Decimal("1E-256"), "decimals"),
    "a decimal of a million digits": (Decimal("1E+1000000"), "decimals"),
    "a decimal of 40 digits": (Decimal("1." + "0" * 38 + "1"), "decimals"),
    "a decimal that is infinite": (Decimal("Infinity"), "no number"),
    "a decimal that is none": (Decimal("sNaN"), "no number"),
    "a moment before 1970": (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), "before 1970"),
    "a surrogate": ("\udc80", "surrogates"),
    "a name of 256 bytes": ({"é" * 128: 1}, "256 bytes"),
    "a name that is no text": ({5: 1}, "Expected `str`, got `int`"),
    "a name that is bytes": ({b"a": 1}, "Expected `str`, got `bytes`"),
    "a name that is no Unicode": ({"\ud800": 1}, "surrogates"),
    "an object": (object(), "AMQP has no kind for object"),
    "a function": (len, "AMQP has no kind for"),
    "a complex number": (1j, "AMQP has no kind for complex"),
    "a table too deep": (nested(DEEPEST), "in one another"),
    "a table of a thousand": (nested(1000), "in one another"),
    "a table within itself": (looped(), "within itself"),
    "more than a frame holds": ("x" * 130_000, "one frame"),
    "more than a frame holds, in small pieces": ({f"{n:05}": "x" * 20 for n in range(5000)}, "one frame"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_header_values_that_cannot_be_sent_are_named(case: str) -> None:
    value, told = REFUSED[case]
    with pytest.raises(ValueError, match=told) as refused:
        send(headers={"h": value})
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("name", ["CC", "BCC"])
def test_routing_headers_are_lists_of_routing_keys(name: str) -> None:
    send(headers={name: ["a", "b" * 255]})
    send(headers={name: ("a",)})
    for value in ("a", None, {"a": 1}, [1], [b"a"], ["b" * 256]):
        with pytest.raises(ValueError, match=name):
            send(headers={name: value})


def test_headers_are_a_table() -> None:
    for value in ("a=b", [("a", 1)], 5):
        with pytest.raises(ValueError, match="headers: Expected `object`"):
            send(headers=value)


def test_a_body_has_its_bound() -> None:
    class Endless(bytes):
        def __len__(self) -> int:
            return LARGEST_BODY_BYTES + 1

    with pytest.raises(ValueError, match="the body has"):
        send(body=Endless())


def test_what_is_published_is_detached_from_what_it_was_made_of() -> None:
    inner = [1]
    sent = send(headers={"a": inner})
    inner.append(2)

    assert sent.properties.headers == {"a": [1]}


def test_a_run_publishes_no_more_than_one_frame_to_its_consumer_holds() -> None:
    message, body = Message(b""), bytes(LARGEST_BODY_BYTES // 2)
    for _ in range(LARGEST_RUN_BYTES // len(body)):
        message.publish(body, routing_key="q")

    with pytest.raises(ValueError, match="this run would publish"):
        message.publish(body, routing_key="q")
    message.publish(json.dumps({"small": 1}), routing_key="q")
