"""What is logged, shown and counted of what the broker says, and of turns that are durable."""

from __future__ import annotations

import logging
from typing import cast

import msgspec
import pytest

from supervisor.brokers import base
from supervisor.consumer.observe.delay_watch import DelayWatch
from supervisor.consumer.observe.health import Health
from supervisor.consumer.observe.measures import Measures
from supervisor.consumer.observe.observer import MISSING_LOOKS, Observer
from supervisor.consumer.settlement.unit_of_work import Say, Turn
from supervisor.ledger.base import Row, RowState
from supervisor.logs.events import Event
from tests.support.settling import RAISED, Bench, key_of


class Delays:
    """In the place of the watch on delay queues: keeps the rows that it hears of."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []

    def turned(self, rows: dict[bytes, Row]) -> None:
        self.rows += rows


@pytest.fixture
def bench() -> Bench:
    return Bench(prefetch=2)


@pytest.fixture
def delays() -> Delays:
    return Delays()


@pytest.fixture
def observer(bench: Bench, delays: Delays) -> Observer:
    measures = Measures(9, {"delivered": 5})
    return Observer(bench.settlement, Health("q"), measures, cast(DelayWatch, delays))


def state(observer: Observer) -> object:
    return observer.snapshot(1).connection.state


def test_a_connection_is_shown_logged_and_counted(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        observer.see(base.Connected("here"))
        assert state(observer) == "connected"
        observer.see(base.Disconnected("the cable", "here", 2.0))
    assert state(observer) == "connecting"
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.WARNING]
    assert "the cable; trying again in 2.0 s" in caplog.text
    assert msgspec.to_builtins(observer.snapshot(1).measures.connections) == {"opened": 1, "lost": 1, "failed": 0}


def test_an_attempt_to_connect_that_fails_is_no_loss(observer: Observer) -> None:
    gone = base.Disconnected("gone", "here", 1.0)
    for event in (gone, base.Connected("here"), gone, gone):
        observer.see(event)
    assert observer.measures.connections == {"opened": 1, "lost": 1, "failed": 2}


@pytest.mark.parametrize("end", [base.Disconnected("gone", "here", 1.0), base.Cancelled(""), base.Cancelled("deleted")])
def test_deliveries_come_from_the_subscription_until_it_ends(observer: Observer, end: object) -> None:
    assert not observer.subscribed
    observer.see(base.Subscribed(1))
    assert observer.subscribed
    observer.see(end)
    assert not observer.subscribed


def test_an_end_of_the_subscription_is_logged_unless_it_was_ordered(
    observer: Observer, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    observer.see(base.Cancelled(""))
    bench.settlement.drain()
    observer.see(base.Cancelled("deleted"))
    assert caplog.text == ""
    bench.settlement.resume()
    observer.see(base.Cancelled("deleted"))
    assert "deleted" in caplog.text


def test_each_fate_of_a_publication_is_counted(observer: Observer) -> None:
    for _ in range(3):
        observer.measures.publishes.sent()
    observer.see(base.Confirmed(1))
    observer.see(base.Unpublished(2, "full"))
    publishes = msgspec.to_builtins(observer.snapshot(1).measures.publishes)
    assert publishes == {"confirmed": 1, "refused": 1, "lost": 0, "unconfirmed": 1}


def test_a_refused_connection_is_shown_with_its_reason(observer: Observer) -> None:
    observer.see(base.Fatal("no such vhost"))
    assert (state(observer), observer.snapshot(1).connection.why) == ("refused", "no such vhost")


def test_a_full_prefetch_window_is_not_starved(
    observer: Observer, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr("supervisor.consumer.observe.health.monotonic_s", lambda: now_s[0])
    observer.see(base.Subscribed(1))
    bench.deliver("a")
    bench.deliver("b")
    now_s[0] += 100.0
    observer.see(base.Depth(7, 1))
    assert observer.health.present == []
    bench.assign()
    bench.ends(bench.entry("a").run)
    now_s[0] += 100.0
    observer.see(base.Depth(7, 1))
    assert [symptom.name for symptom in observer.health.present] == [Event.CONSUMER_STARVED]


def test_failed_messages_that_do_not_come_back_are_a_note_after_a_minute(observer: Observer, bench: Bench) -> None:
    def look(times: int) -> list[str]:
        for _ in range(times):
            observer.see(base.Depth(0, 2))
        return [symptom.name for symptom in observer.health.present if symptom.name == Event.MESSAGES_MISSING]

    bench.has_row(RowState.DEAD_PENDING, note=msgspec.msgpack.encode(RAISED))
    bench.settlement.restore_row(bench.rows[key_of("m")])
    assert look(MISSING_LOOKS - 1) == []
    assert look(1) == [Event.MESSAGES_MISSING]
    bench.deliver("m", redelivered=True)
    assert look(1) == []


def test_every_event_of_a_broker_is_known(observer: Observer) -> None:
    kinds = {
        kind
        for kind in vars(base).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == base.__name__
    }
    assert observer._see.keys() == kinds - {base.Delivery, base.Outgoing}


def test_a_durable_turn_is_told_to_the_watch_on_delays_and_its_dead_letters_are_news(
    observer: Observer, bench: Bench, delays: Delays
) -> None:
    fields = {"message_id": "m", "round": 1, "attempt": 3, "cause": "failed", "reason": "no"}
    fields |= {"status": None, "signal": None, "worker": "p/0"}
    bench.deliver("m")
    bench.assign()
    rows = bench.turn().rows
    observer.committed(Turn([], rows, {}))
    assert observer.dead_letters.take() is None
    observer.committed(Turn([Say(Event.MESSAGE_DEAD, "m is dead", fields)], {}, {}))
    assert delays.rows == list(rows)
    news = observer.dead_letters.take()
    assert news is not None
    assert [letter["message_id"] for letter in news.named] == ["m"]
