"""Facts about publications in a row of the inbox: they come back as they were, also from another version's hands."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from supervisor.api import Message
from supervisor.inbox.stored import OPEN, packed, unpacked
from supervisor.messages.inbox_run import InboxError
from supervisor.messages.message import Properties, Publication

ODD = {
    "decimal": Decimal("-12.345"),
    "moment": datetime(2024, 2, 29, 12, 30, 0, 5, tzinfo=UTC),
    "bytes": b"\xff\x00",
    "text": "grüße",
    "whole float": 1.0,
    "big": 2**63 - 1,
    "nested": {"list": [1, 1.0, True, None, Decimal("0.5"), {"deep": datetime(1970, 1, 1, tzinfo=UTC)}]},
}


def collected() -> list[Publication]:
    """Publications as `publish` collects them, with all properties."""
    message = Message(b"")
    words = {name: name for name in ("content_type", "correlation_id", "reply_to", "message_id", "type", "app_id")}
    message.publish(b"\x00\xff", routing_key="audit", exchange="events", headers=ODD, priority=9, **words)
    message.publish("grüße", routing_key="q", timestamp=2**64 - 1, expiration="60000")
    return message.publications


def kinds(value: object) -> object:
    """The types within a header, so that 1 and 1.0 and True differ."""
    if isinstance(value, dict):
        return {name: kinds(item) for name, item in value.items()}
    return [kinds(item) for item in value] if isinstance(value, list) else type(value)


def test_publications_come_back_with_every_kind_of_header_and_property() -> None:
    sent = collected()

    back = unpacked(packed(sent))

    assert back == sent
    assert kinds(back[0].properties.headers) == kinds(sent[0].properties.headers) == kinds(ODD)


def test_no_publications_are_no_bytes_and_never_those_of_an_open_block() -> None:
    assert packed([]) is None
    assert unpacked(None) == []
    assert packed([Publication("", "", Properties(), b"")]) != OPEN


def test_the_first_format_stays_readable() -> None:
    """Written by the first version: rows outlive an upgrade."""
    data = bytes.fromhex("019194a0a17190c4026869")

    assert unpacked(data) == [Publication("", "q", Properties(), b"hi")]


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\x02\x90", "format 02"), (b"", "format "), (b"\x01\x91", "damaged"), (b"\x01\x91\xc0", "dama")],
)
def test_other_bytes_are_an_error_that_says_what_they_are(data: bytes, words: str) -> None:
    with pytest.raises(InboxError, match=words):
        unpacked(data)
