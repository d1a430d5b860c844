"""Messages that leave a queue otherwise than by a delivery, as far as two looks at it can tell."""

from __future__ import annotations

import pytest

from supervisor.brokers.base import Depth
from supervisor.consumer.observe.health import Health, Shrinkage
from supervisor.logs.events import Event

PREFETCH = 10
LOOKS: dict[str, tuple[list[tuple[int, int]], int]] = {
    "nothing happens": ([(100, 0), (100, 0)], 0),
    "delivered": ([(100, 0), (60, 40)], 0),
    "deliveries that are still on their way": ([(100, 0), (90, 0)], 0),
    "purged": ([(100, 0), (0, 0)], 100),
    "purged at once": ([(100, 0), (0, 40)], 60),
    "published meanwhile": ([(100, 0), (500, 40)], 0),
    "purged before the first look": ([(0, 0)], 0),
    "purged long after": ([(100, 0), (100, 0), (80, 0)], 20),
    "fast deliveries that are heard of before their look": ([(10_000, 0), (8_000, 3_000), (5_000, 5_000)], 0),
}
"""By case: (ready, delivered in all) at each look, and what has left by the last one."""


@pytest.mark.parametrize("case", LOOKS)
def test_what_has_left_a_queue_unseen(case: str) -> None:
    looks, left = LOOKS[case]
    shrinkage = Shrinkage()
    answers = [shrinkage.look(ready, delivered, PREFETCH) for ready, delivered in looks]
    assert answers == [*[0] * (len(looks) - 1), left]


def told(health: Health) -> list[str]:
    return [symptom.text for symptom in health.present if symptom.name == Event.QUEUE_SHRUNK]


def test_losses_add_up_in_one_symptom() -> None:
    health = Health("q")
    for ready in (100, 50, 0):
        health.depth(Depth(ready, 1), True, 0, PREFETCH)
    (text,) = told(health)
    assert "about 100 messages" in text


def test_a_queue_without_a_leader_is_not_taken_for_an_empty_one() -> None:
    health = Health("q")
    for ready, consumers in ((100, 1), (0, 0), (100, 1)):
        health.depth(Depth(ready, consumers), True, 0, PREFETCH)
    assert told(health) == []


def test_what_other_consumers_take_is_no_loss() -> None:
    health = Health("q")
    for ready, consumers in ((100, 1), (50, 2), (0, 1)):
        health.depth(Depth(ready, consumers), True, 0, PREFETCH)
    assert told(health) == []
