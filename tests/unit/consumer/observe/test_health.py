"""What a consumer says of its queue and its connection."""

from __future__ import annotations

from supervisor.brokers.base import Depth
from supervisor.consumer.observe.health import UNKNOWN_LOOKS, Health
from supervisor.logs.events import Event


def test_a_subscribed_daemon_counts_itself_among_the_consumers() -> None:
    """A quorum queue counts a new consumer seconds later."""
    health = Health("mail")
    health.depth(Depth(3, 0), subscribed=True)
    assert health.queue_status().consumers == 1
    health.depth(Depth(3, 0), subscribed=False)
    assert health.queue_status().consumers == 0
    health.depth(Depth(3, 2), subscribed=True)
    assert health.queue_status().consumers == 2


def test_an_alarm_stays_known_while_connections_come_and_go() -> None:
    health = Health("mail")
    health.blocked("low on memory")
    health.connection("connected", "host")
    assert (health.connection_status(1).state, health.connection_status(1).why) == ("blocked", "low on memory")
    assert (health.connected, health.publishing) == (True, False)
    health.connection("connecting", why="closed")
    assert (health.connection_status(1).state, health.connection_status(1).why) == ("connecting", "closed")
    health.blocked("")
    assert (health.connection_status(1).state, health.connected, health.publishing) == ("connecting", False, False)
    health.connection("connected", "host")
    assert (health.connection_status(1).state, health.publishing) == ("connected", True)


def unresponsive(health: Health) -> list[bool]:
    return [symptom.degrades for symptom in health.present if symptom.name == Event.QUEUE_UNRESPONSIVE]


def test_a_queue_that_does_not_know_its_consumer_is_unresponsive_until_it_does() -> None:
    health = Health("mail")
    for _look in range(UNKNOWN_LOOKS):
        assert unresponsive(health) == []
        health.depth(Depth(0, 0), subscribed=True)
    assert unresponsive(health) == [True]
    health.depth(Depth(0, 1), subscribed=True)
    assert unresponsive(health) == []


def test_a_new_consumer_that_is_not_counted_yet_and_a_paused_one_are_no_symptom() -> None:
    health = Health("mail")
    for consumers, subscribed in ((0, True), (0, True), (1, True), *((0, False),) * (UNKNOWN_LOOKS + 1)):
        health.depth(Depth(0, consumers), subscribed=subscribed)
    assert unresponsive(health) == []


def test_a_queue_that_answers_again_is_responsive() -> None:
    health = Health("mail")
    health.unresponsive(5.0)
    assert unresponsive(health) == [False]
    health.depth(Depth(0, 1), subscribed=True)
    assert unresponsive(health) == []
