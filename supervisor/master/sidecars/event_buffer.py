"""Events that wait for the hooks process: bounded, so that one that reads slowly, or is not there, costs nothing.

Master only. What finds no room is dropped and counted, and the next thing the process reads is how many there were.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from supervisor.link.frames import Frame, Happened, Missed

MAX_WAITING = 500
MAX_PENDING_BYTES = 64 * 1024


class Receiver(Protocol):
    """A Wire, as far as it is needed here."""

    @property
    def pending_bytes(self) -> int:
        """How much was sent and not taken."""

    def send(self, *frames: Frame) -> None: ...


class EventBuffer:
    """`dropped`: how many events found no room since the daemon started."""

    def __init__(self) -> None:
        self._waiting: deque[Happened] = deque()
        self._missed: dict[str, int] = {}
        self.dropped = 0

    def put(self, happened: Happened) -> None:
        """Take an event, or count it."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(happened)
        else:
            self.miss(happened.hook, 1)

    def miss(self, hook: str, count: int) -> None:
        """So many events of a hook were not even named."""
        if count:
            self._missed[hook] = self._missed.get(hook, 0) + count
            self.dropped += count

    def hand_over(self, receiver: Receiver) -> None:
        """Send as much as the receiver is likely to take."""
        while self._waiting and receiver.pending_bytes < MAX_PENDING_BYTES:
            receiver.send(self._waiting.popleft())
        if self._missed and receiver.pending_bytes < MAX_PENDING_BYTES:
            receiver.send(Missed(self._missed))
            self._missed = {}

    def clear(self) -> None:
        """Drop all events: no process reads them any more."""
        self._waiting.clear()
        self._missed = {}

    def __len__(self) -> int:
        return len(self._waiting)
