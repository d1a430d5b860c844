"""Remembers runs whose saving copy waits in their queue and has not come yet. Pure, part of the settlement.

The acks of saved messages may be lost with a connection: then both a message and its copy are in the queue, and each
would be saved again at the next loss, twice as many each time. While a copy is known to wait, its original is surplus.
"""

from __future__ import annotations

from supervisor.consumer.settlement.messages import Arrival
from supervisor.link.frames import RunId


class SavedRuns:
    """Holds within one connection: after its end a copy may have come back itself, and nothing tells it from others."""

    def __init__(self) -> None:
        self._waiting: set[RunId] = set()

    def add(self, run: RunId) -> None:
        """The broker has confirmed a copy of this run."""
        self._waiting.add(run)

    def clear(self) -> None:
        """The connection has ended."""
        self._waiting.clear()

    def has(self, arrival: Arrival) -> bool:
        """Whether this worn message has a copy that waits. One that is not worn may be that copy: it has come."""
        if not self._waiting:
            return False
        run = RunId(arrival.key, arrival.round, arrival.attempt)
        if not arrival.worn:
            self._waiting.discard(run)
        return run in self._waiting
