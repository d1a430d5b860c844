"""What a consumer says of its queue and its connection."""

from __future__ import annotations

from supervisor.brokers.base import Depth
from supervisor.consumer.health import Health


def test_a_subscribed_daemon_counts_itself_among_the_consumers() -> None:
    """A quorum queue counts a new consumer seconds later."""
    health = Health("mail")
    health.depth(Depth(3, 0), subscribed=True)
    assert health.queue_facts()["consumers"] == 1
    health.depth(Depth(3, 0), subscribed=False)
    assert health.queue_facts()["consumers"] == 0
    health.depth(Depth(3, 2), subscribed=True)
    assert health.queue_facts()["consumers"] == 2


def test_an_alarm_stays_known_while_connections_come_and_go() -> None:
    health = Health("mail")
    health.blocked("low on memory")
    health.connection("connected", "host")
    assert (health.facts(1)["state"], health.facts(1)["why"]) == ("blocked", "low on memory")
    assert (health.connected, health.publishing) == (True, False)
    health.connection("connecting", why="closed")
    assert (health.facts(1)["state"], health.facts(1)["why"]) == ("connecting", "closed")
    health.blocked("")
    assert (health.facts(1)["state"], health.connected, health.publishing) == ("connecting", False, False)
    health.connection("connected", "host")
    assert (health.facts(1)["state"], health.publishing) == ("connected", True)
