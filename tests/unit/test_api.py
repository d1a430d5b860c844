"""The handler API as users meet it in their own unit tests: no worker near."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from supervisor import Message, Properties, Retry, record_group


class FixedLimit:
    """A worker's limit with 10 seconds left."""

    def __init__(self) -> None:
        self.extended = 0.0

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
