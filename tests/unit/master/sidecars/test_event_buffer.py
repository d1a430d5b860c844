"""The event buffer: bounded in events and in bytes, and what found no room is counted and said."""

from __future__ import annotations

from typing import Any

from supervisor.link.frames import Frame, Happened, Missed
from supervisor.master.sidecars.sidecars import MAX_PENDING_BYTES, MAX_WAITING, EventBuffer

EVENT = Happened("exit", {"pid": 7})


class Slow:
    """A receiver that takes what it is given, a step of bytes each, until it is full."""

    def __init__(self, step: int) -> None:
        self.taken: list[Frame] = []
        self.step = step

    @property
    def pending_bytes(self) -> int:
        return self.step * len(self.taken)

    def send(self, *frames: Frame) -> None:
        self.taken += frames


def slow(step: int) -> Any:
    """It stands for a wire."""
    return Slow(step)


def test_a_receiver_gets_no_more_than_it_is_likely_to_take() -> None:
    event_buffer, receiver = EventBuffer(), slow(MAX_PENDING_BYTES // 4)
    for _ in range(10):
        event_buffer.put(EVENT)
    event_buffer.hand_over(receiver)
    assert (len(receiver.taken), len(event_buffer)) == (4, 6)


def test_what_finds_no_room_is_counted_and_said_after_what_waited() -> None:
    event_buffer, receiver = EventBuffer(), slow(0)
    for _ in range(MAX_WAITING + 5):
        event_buffer.put(EVENT)
    event_buffer.put(Happened("dead", {}))
    event_buffer.miss("dead", 3)
    event_buffer.miss("dead", 0)
    assert (len(event_buffer), event_buffer.dropped) == (MAX_WAITING, 9)
    event_buffer.hand_over(receiver)
    assert receiver.taken == [EVENT] * MAX_WAITING + [Missed({"exit": 5, "dead": 4})]
    event_buffer.hand_over(receiver)
    assert len(receiver.taken) == MAX_WAITING + 1, "said once"


def test_when_no_hook_is_configured_nothing_waits() -> None:
    event_buffer, receiver = EventBuffer(), slow(0)
    event_buffer.put(EVENT)
    event_buffer.miss("exit", 1)
    event_buffer.clear()
    event_buffer.hand_over(receiver)
    assert receiver.taken == []
