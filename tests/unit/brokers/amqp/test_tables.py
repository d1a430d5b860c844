"""The field table codec: what goes in comes out, and nothing that RabbitMQ lets through raises."""

from __future__ import annotations

import math
import os
import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pika.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.brokers.amqp import tables
from supervisor.consumer.settlement.messages import Earlier, Failure


@pytest.fixture(autouse=True)
def _installed() -> None:
    tables.install()


def _through(table: dict[str, Any]) -> dict[str, Any]:
    pieces: list[bytes] = []
    size = pika.data.encode_table(pieces, table)
    data = b"".join(pieces)
    assert len(data) == size
    decoded, offset = pika.data.decode_table(data, 0)
    assert offset == size
    result: dict[str, Any] = decoded
    return result


def _decoded(kind: bytes, payload: bytes) -> Any:
    value, offset = tables.decode_value(kind + payload, 0)
    assert offset == 1 + len(payload)
    return value


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _types(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_types(item) for item in value]
    return type(value)


TIMES = 30 if os.environ.get("PREFORKD_SOAK") else 1

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(max_size=20),
    st.decimals(-1000, 1000, places=3),
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)).map(
        lambda when: when.replace(microsecond=0)
    ),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


@settings(deadline=None, max_examples=100 * TIMES)
@given(st.dictionaries(TEXT, VALUES, max_size=6))
def test_every_value_survives_with_its_type(table: dict[str, Any]) -> None:
    tables.install()
    decoded = _through(table)

    assert decoded == table
    assert _types(decoded) == _types(table)


@pytest.mark.parametrize("value", [0.1, -1.5e300, float("inf"), 5e-324])
def test_floats_are_not_cut(value: float) -> None:
    assert _through({"f": value}) == {"f": value}


def test_not_a_number_survives() -> None:
    assert math.isnan(_through({"f": float("nan")})["f"])


def test_a_single_precision_float_is_read_as_it_is() -> None:
    assert _decoded(b"f", struct.pack(">f", 0.5)) == 0.5


def test_a_decimal_keeps_its_trailing_zeros() -> None:
    assert str(_through({"d": Decimal("1.50")})["d"]) == "1.50"


def test_a_local_time_is_sent_as_the_same_moment() -> None:
    local = datetime(2024, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))

    assert _through({"t": local})["t"] == local


def test_a_timestamp_beyond_all_calendars_is_a_number() -> None:
    milliseconds = 1_700_000_000_000

    assert _decoded(b"T", struct.pack(">Q", milliseconds)) == milliseconds
    assert _decoded(b"T", struct.pack(">Q", 2**64 - 1)) == 2**64 - 1


def test_text_that_is_not_utf8_is_bytes() -> None:
    assert _decoded(b"S", struct.pack(">I", 2) + b"\xff\xfe") == b"\xff\xfe"


def test_a_name_that_is_not_utf8_is_still_text() -> None:
    assert tables.decode_short_string(b"\x02\xffa", 0) == ("\\xffa", 3)


@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        (b"t", b"\x01", True),
        (b"b", b"\xff", -1),
        (b"B", b"\xff", 255),
        (b"s", b"\xff\xfe", -2),
        (b"u", b"\xff\xfe", 65534),
        (b"I", b"\xff\xff\xff\xff", -1),
        (b"i", b"\xff\xff\xff\xff", 2**32 - 1),
        (b"l", b"\xff" * 8, -1),
        (b"V", b"", None),
    ],
)
def test_every_number_kind_of_rabbitmq_is_read(kind: bytes, payload: bytes, value: object) -> None:
    assert _decoded(kind, payload) == value


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**64),
        pytest.param(object(), id="an object"),
        {1, 2},
        Decimal("1e30"),
        Decimal("NaN"),
        Decimal("12345678901.5"),
        datetime(1960, 1, 1),
    ],
    ids=repr,
)
def test_what_amqp_cannot_say_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"AMQP|64 bits|1970"):
        tables.encode_value([], value)


def test_subclasses_go_as_what_they_are() -> None:
    class Word(str):
        pass

    assert _through({"w": Word("x"), "tuple": (1, 2)}) == {"w": "x", "tuple": [1, 2]}


def test_what_attempts_of_a_message_tell_each_other_comes_through() -> None:
    death = Failure("crash", "it ended", "p/0", "frames", None, "SIGSEGV", 0.0, 1.5, database=b"0123456789abcdef")
    earlier = Earlier(2, b"0123456789abcdef", death, 3)
    assert msgspec.convert(_through({"earlier": msgspec.to_builtins(earlier)})["earlier"], Earlier) == earlier
