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
