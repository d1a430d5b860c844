"""The handler API as users meet it in their own unit tests: no worker near."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from enum import StrEnum
from fractions import Fraction
from http import HTTPStatus
from typing import Any

import pytest

from supervisor import Message, Properties, Retry, record_group


class FixedLimit:
    """A worker's limit with 10 seconds left."""

    def __init__(self) -> None:
        self.extended = 0.0
        self.is_over = False

    def remaining_s(self) -> float:
        return 10.0 + self.extended

    def extend(self, seconds: float) -> None:
        self.extended += seconds


def test_a_message_can_be_made_from_a_body_alone() -> None:
    message = Message(b'{"to": "ada"}')
    assert message.json() == {"to": "ada"}
    assert message.text() == '{"to": "ada"}'
    assert message.headers == {}
    assert (message.round, message.attempt) == (1, 1)
    assert not message.redelivered and not message.maybe_duplicate


def test_headers_are_the_propertys() -> None:
    assert Message(b"", properties=Properties(headers={"a": 1})).headers == {"a": 1}


def test_messages_do_not_share_their_publications() -> None:
    first, second = Message(b""), Message(b"")
    first.publish(b"x", routing_key="audit")
    assert len(first.publications) == 1
    assert second.publications == []


def test_publish_takes_properties_as_keywords() -> None:
    message = Message(b"")
    template = Properties(type="mail", app_id="shop")
    message.publish("grüße", routing_key="audit", exchange="logs", properties=template, type="note", headers={"a": [1]})
    (sent,) = message.publications
    assert (sent.exchange, sent.routing_key, sent.body) == ("logs", "audit", "grüße".encode())
    assert sent.properties == Properties(type="note", app_id="shop", headers={"a": [1]})


def test_published_headers_keep_their_types() -> None:
    message, headers = Message(b""), {"price": Decimal("1.50"), "at": datetime(2024, 1, 1, tzinfo=UTC), "raw": b"x"}
    message.publish(b"", routing_key="audit", headers=headers)
    assert message.publications[0].properties.headers == headers


def test_what_was_published_is_not_changed_afterwards() -> None:
    message, headers = Message(b""), {"n": 1}
    message.publish(b"", routing_key="audit", headers=headers)
    headers["n"] = 2
    assert message.publications[0].properties.headers == {"n": 1}


BAD_PUBLISHES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a body of another type": ({"body": {"a": 1}}, TypeError, "must be bytes or str, not dict"),
    "an unknown keyword": ({"colour": "red"}, TypeError, "colour"),
    "a header that nothing can carry": ({"headers": {"a": object()}}, ValueError, "cannot be sent"),
    "a header that is no Unicode": ({"headers": {"a": "\udc80"}}, ValueError, "cannot be sent"),
    "a header table that is none": ({"headers": "a=b"}, ValueError, "Expected `object"),
    "a decimal that is no number": ({"headers": {"a": Decimal("sNaN")}}, ValueError, "cannot be sent"),
    "a number beyond 64 bits": ({"headers": {"a": 2**70}}, ValueError, "cannot be sent"),
    "a property of the wrong type": ({"priority": "high"}, ValueError, "Expected `int"),
    "a routing key of the wrong type": ({"routing_key": None}, ValueError, "Expected `str`, got"),
}


@pytest.mark.parametrize("case", BAD_PUBLISHES)
def test_what_cannot_be_sent_fails_at_the_handlers_own_line(case: str) -> None:
    changes, kind, text = BAD_PUBLISHES[case]
    message = Message(b"")
    with pytest.raises(kind, match=text):
        message.publish(**{"body": b"", "routing_key": "audit", **changes})
    assert message.publications == []


def test_outside_a_worker_there_is_no_deadline() -> None:
    message = Message(b"")
    assert message.deadline is None
    assert message.remaining_s == math.inf
    message.extend(5)
    record_group(1)


def test_in_a_worker_the_deadline_is_a_wall_clock_time_that_extend_moves() -> None:
    message = Message(b"", limit=FixedLimit())
    message.extend(50)
    assert message.remaining_s == 60.0
    assert message.deadline is not None
    assert abs(message.deadline - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=5)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_extend_wants_a_positive_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Message(b"").extend(seconds)


@pytest.mark.parametrize("delay_s", [-1, math.nan, math.inf])
def test_retry_wants_a_delay_that_can_pass(delay_s: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        Retry(delay_s)


class _Word(str):
    pass


class _Bytes(bytes):
    pass


class _Colour(StrEnum):
    RED = "red"


class _Later(datetime):
    """As pandas' Timestamp, or a frozen clock's datetime."""


class _Whole(int):
    pass


class _Amount(Decimal):
    pass


DERIVED: dict[str, tuple[dict[str, Any], Any]] = {
    "a text": ({"headers": {"a": _Word("x")}}, {"a": "x"}),
    "bytes": ({"headers": {"a": _Bytes(b"x")}}, {"a": b"x"}),
    "an enum": ({"headers": {"a": _Colour.RED}}, {"a": "red"}),
    "an integer": ({"headers": {"a": _Whole(5)}}, {"a": 5}),
    "a number of another kind": ({"headers": {"a": Fraction(1, 4)}}, {"a": 0.25}),
    "a decimal": ({"headers": {"a": _Amount("1.5")}}, {"a": Decimal("1.5")}),
    "a moment": ({"headers": {"a": _Later(2024, 1, 1, tzinfo=UTC)}}, {"a": datetime(2024, 1, 1, tzinfo=UTC)}),
    "a table": ({"headers": OrderedDict(a=_Word("x"))}, {"a": "x"}),
    "a name": ({"headers": {_Word("a"): 1}}, {"a": 1}),
}


@pytest.mark.parametrize("case", DERIVED)
def test_a_value_of_a_derived_class_is_published_as_what_it_is(case: str) -> None:
    fields, headers = DERIVED[case]
    message = Message(b"")
    message.publish(_Bytes(b"body"), routing_key=_Word("audit"), exchange=_Colour.RED, **fields)
    (sent,) = message.publications
    assert (type(sent.body), type(sent.routing_key), sent.exchange) == (bytes, str, "red")
    assert sent.properties.headers == headers
    assert [type(value) for value in (sent.properties.headers or {}).values()] == [type(v) for v in headers.values()]


def test_properties_may_be_of_derived_classes() -> None:
    message = Message(b"")
    message.publish(
        _Word("grüße"), routing_key="audit", type=_Colour.RED, priority=HTTPStatus.OK, message_id=_Word("m")
    )
    (sent,) = message.publications
    assert sent.properties == Properties(type="red", priority=200, message_id="m")
    assert sent.body == "grüße".encode()


def test_a_decimal_is_published_whole_whatever_the_handlers_own_precision() -> None:
    message = Message(b"")
    with localcontext(Context(prec=3)):
        message.publish(b"", routing_key="audit", headers={"price": Decimal("1234.5678")})
    assert message.publications[0].properties.headers == {"price": Decimal("1234.5678")}


def test_a_publish_after_the_run_is_refused() -> None:
    limit = FixedLimit()
    message = Message(b"", limit=limit)
    message.publish(b"in time", routing_key="audit")
    limit.is_over = True
    with pytest.raises(ValueError, match="the run of this message is over"):
        message.publish(b"too late", routing_key="audit")
    assert len(message.publications) == 1


def test_extend_takes_any_number_and_no_other() -> None:
    message = Message(b"", limit=FixedLimit())
    message.extend(Fraction(5, 2))
    assert message.remaining_s == 12.5
    for wrong in ("5", timedelta(seconds=5), None):
        with pytest.raises(TypeError, match="a number of seconds"):
            message.extend(wrong)  # type: ignore[arg-type]


def test_the_fence_grows_with_each_run_and_fits_into_a_bigint() -> None:
    runs = [(1, 1), (1, 2), (1, 1000), (2, 1), (2, 2), (2**20, 1)]
    fences = [Message(b"", round=round_, attempt=attempt).fence for round_, attempt in runs]
    assert fences == sorted(set(fences))
    assert 0 < min(fences) < max(fences) < 2**63
