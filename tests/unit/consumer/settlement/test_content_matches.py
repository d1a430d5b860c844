"""The lost tags of messages without an id, met by likeness."""

from __future__ import annotations

import pytest

from supervisor.brokers.base import Delivery
from supervisor.consumer.settlement.content_matches import WINDOW_S, ContentMatches
from supervisor.consumer.settlement.messages import Arrival
from supervisor.messages.message import Properties

LIKE, OTHER = b"like", b"other"


def an_arrival(likeness: bytes = LIKE, redelivered: bool = True, has_id: bool = False) -> Arrival:
    delivery = Delivery(2, 1, "", "q", redelivered, Properties(), b"")
    return Arrival(delivery, b"new", "id", has_id, 1, 1, False, likeness)


def test_lost_tags_of_a_kind_are_met_in_their_order_each_once() -> None:
    content_matches = ContentMatches()
    for key in (b"1", b"2"):
        content_matches.expect(LIKE, key, 0.0)
    assert [content_matches.match(an_arrival(), 1.0) for _ in range(3)] == [b"1", b"2", None]


@pytest.mark.parametrize(
    "arrival", [an_arrival(OTHER), an_arrival(redelivered=False), an_arrival(has_id=True)], ids=["other", "first", "id"]
)
def test_anything_less_than_full_likeness_proves_nothing(arrival: Arrival) -> None:
    content_matches = ContentMatches()
    content_matches.expect(LIKE, b"1", 0.0)
    assert content_matches.match(arrival, 1.0) is None
    assert content_matches.match(an_arrival(), 1.0) == b"1"


def test_on_a_shared_queue_nothing_is_proven() -> None:
    content_matches = ContentMatches()
    content_matches.expect(LIKE, b"1", 0.0)
    content_matches.queue_is_ours = False
    assert content_matches.match(an_arrival(), 1.0) is None


def test_the_window_ends() -> None:
    content_matches = ContentMatches()
    content_matches.expect(LIKE, b"1", 0.0)
    content_matches.expect(LIKE, b"2", 1.0)
    assert content_matches.match(an_arrival(), WINDOW_S + 0.5) == b"2"
    content_matches.expect(LIKE, b"3", 2.0)
    assert content_matches.match(an_arrival(), WINDOW_S + 3.0) is None


def test_what_was_given_up_is_not_expected() -> None:
    content_matches = ContentMatches()
    for key in (b"1", b"2"):
        content_matches.expect(LIKE, key, 0.0)
    content_matches.forget(b"1", LIKE)
    content_matches.forget(b"9", OTHER)
    assert [content_matches.match(an_arrival(), 1.0) for _ in range(2)] == [b"2", None]


def test_nothing_is_kept_beyond_its_window() -> None:
    content_matches = ContentMatches()
    content_matches.expect(LIKE, b"1", 0.0)
    content_matches.expect(OTHER, b"2", 100.0)
    content_matches.expire(WINDOW_S + 50)
    assert set(content_matches._expected) == {OTHER}
