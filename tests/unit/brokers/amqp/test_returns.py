"""Which publication a Return speaks of, whatever the broker has made of its properties on the way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pika.spec

from supervisor.brokers.amqp import tables
from supervisor.brokers.amqp.suspects import Unconfirmed, returned
from supervisor.messages.message import Properties, Publication

tables.install()


def sent(exchange: str = "", key: str = "gone", body: bytes = b"x", **properties: Any) -> Unconfirmed:
    return Unconfirmed(0, Publication(exchange, key, Properties(**properties), body), due_s=0.0, losses=0)


def found(on_their_way: list[Unconfirmed], comes_back: Unconfirmed) -> list[int]:
    """The indices of those that a Return with these words may speak of."""
    publication = comes_back.publication
    method = pika.spec.Basic.Return(312, "NO_ROUTE", publication.exchange, publication.routing_key)
    matched = returned(on_their_way, method, comes_back.properties.data, publication.body)
    return [index for index, one in enumerate(on_their_way) if any(one is other for other in matched)]


def test_the_oldest_of_equal_ones_is_returned() -> None:
    assert found([sent(key="there"), sent(), sent()], sent()) == [1]


def test_one_that_comes_back_as_it_was_sent_is_told_from_its_like() -> None:
    assert found([sent(headers={"n": 1}), sent(headers={"n": 2})], sent(headers={"n": 2})) == [1]


def test_one_without_its_bcc_header_is_recognised() -> None:
    on_their_way = [sent(headers={"n": 1, "BCC": ["a"]}), sent(headers={"n": 2, "BCC": ["a"]})]

    assert found(on_their_way, sent(headers={"n": 2})) == [1]


def test_one_to_which_an_interceptor_has_added_a_header_and_a_timestamp_is_recognised() -> None:
    on_their_way = [sent(message_id="a", headers={"n": 1}), sent(message_id="b")]
    stamp = {"timestamp_in_ms": 1_700_000_000_123, "x-routed-by": "rabbit@one", "at": datetime(2026, 1, 1, tzinfo=UTC)}

    assert found(on_their_way, sent(message_id="b", timestamp=1_700_000_000, headers=stamp)) == [1]
    assert found(on_their_way, sent(message_id="a", timestamp=1_700_000_000, headers={**stamp, "n": 1})) == [0]


def test_those_that_cannot_be_told_apart_are_all_meant() -> None:
    on_their_way = [sent(headers={"BCC": ["a"]}), sent(headers={"BCC": ["b"]}), sent(message_id="another")]

    assert found(on_their_way, sent()) == [0, 1]


def test_equal_ones_that_the_broker_has_changed_are_interchangeable() -> None:
    assert found([sent(headers={"BCC": ["a"]}), sent(headers={"BCC": ["a"]})], sent()) == [0]


def test_one_whose_header_the_broker_has_overwritten_means_every_one_with_its_body() -> None:
    on_their_way = [sent(headers={"n": 1}), sent(headers={"n": 2}), sent(body=b"another")]

    assert found(on_their_way, sent(headers={"n": 3})) == [0, 1]


def test_one_with_an_unknown_body_means_every_one_on_its_way_there() -> None:
    assert found([sent(body=b"1"), sent(body=b"2"), sent(key="elsewhere")], sent(body=b"3")) == [0, 1]


def test_one_to_an_unknown_place_means_all() -> None:
    assert found([sent(key="a"), sent(key="b")], sent(exchange="interceptors", key="c")) == [0, 1]


def test_true_is_not_one() -> None:
    on_their_way = [sent(headers={"n": True, "BCC": []}), sent(headers={"n": 1, "BCC": []})]

    assert found(on_their_way, sent(headers={"n": 1})) == [1]


def test_where_nothing_is_on_its_way_nothing_is_meant() -> None:
    assert found([], sent()) == []
