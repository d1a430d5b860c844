"""What a consumer counts for metrics, and when it is news."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.brokers.base import Confirmed, Unpublished
from supervisor.consumer.observe.measures import (
    COMMIT_LE_S,
    HANDLER_LE_S,
    Histogram,
    Measures,
    Publishes,
)
from supervisor.consumer.reports import _content
from supervisor.link.consumer_state import Durations
from supervisor.link.frames import Snapshot
from tests.support.statuses import snapshot


def test_a_duration_is_counted_once_under_the_smallest_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 1.0, 1.1, 90.0):
        histogram.add(seconds)

    assert histogram.facts() == Durations(le=(0.1, 1.0), counts=(2, 2, 2), sum=92.75, count=6)


@pytest.mark.parametrize("bounds", [HANDLER_LE_S, COMMIT_LE_S])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


def test_each_publication_is_awaited_until_its_fate_is_known() -> None:
    publishes = Publishes()
    for _ in range(5):
        publishes.sent()
    publishes.confirmed(Confirmed(1))
    publishes.unpublished(Unpublished(2, "", lost=False))
    publishes.unpublished(Unpublished(3, "", lost=True))

    assert publishes.facts() == {"confirmed": 1, "refused": 1, "lost": 1, "unconfirmed": 2}


def test_outcomes_count_from_the_beginning_of_the_session_whatever_the_ledger_has_counted_before() -> None:
    measures = Measures(9, {"done": 1000, "dead": 3})
    measures.counters.update({"done": 2, "failed": 1})

    assert measures.counters == {"done": 1002, "dead": 3, "failed": 1}
    assert measures.facts(()).outcomes == {"done": 2, "dead": 0, "failed": 1}


def test_facts_do_not_change_with_what_is_counted_later() -> None:
    measures = Measures(9, {})
    first = measures.facts(())
    kept = msgspec.msgpack.encode(first)
    measures.handler_s.add(1.0)
    measures.commit_s.add(1.0)
    measures.weigh(3, 4096)
    measures.publishes.sent()
    measures.connections.update(opened=1)
    measures.evicted(1)

    assert msgspec.msgpack.encode(first) == kept


@pytest.mark.parametrize(
    "change",
    [
        lambda measures: measures.handler_s.add(0.5),
        lambda measures: measures.commit_s.add(0.5),
        lambda measures: measures.weigh(1, 4096),
        lambda measures: measures.publishes.sent(),
        lambda measures: measures.connections.update(opened=1),
    ],
)
def test_what_was_counted_is_news_and_nothing_else_is(change: Any) -> None:
    measures = Measures(9, {})
    before = _content(_snapshot(measures, since_s=1.0))

    assert _content(_snapshot(measures, since_s=2.0)) == before
    change(measures)
    assert _content(_snapshot(measures, since_s=2.0)) != before


def _snapshot(measures: Measures, since_s: float) -> Snapshot:
    told = snapshot(since_s, state="connected", since_s=since_s)
    return msgspec.structs.replace(told, measures=measures.facts(()))
