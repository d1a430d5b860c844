"""Messages without an id that come back after a connection loss: recognised by all their handler sees of them. Pure.

Only this is safe: shortly after a loss, on a queue that is ours alone, a redelivered message that equals one whose tag
was lost *is* that one. Everything else without an id is at-least-once.
"""

from __future__ import annotations

from collections import deque

from supervisor.consumer.settlement.messages import Arrival

WINDOW_S = 300.0


class ContentMatches:
    """The lost tags of messages without an id, each met at most once.

    `key`: of the message that lost its tag; `likeness`: as of its `Arrival`.
    """

    def __init__(self) -> None:
        self.queue_is_ours = True
        self._expected: dict[bytes, deque[tuple[float, bytes]]] = {}

    def expect(self, likeness: bytes, key: bytes, now_s: float) -> None:
        """The message `key` lost a tag: an equal message may come back within the window."""
        self._expected.setdefault(likeness, deque()).append((now_s + WINDOW_S, key))

    def forget(self, key: bytes, likeness: bytes) -> None:
        """The message was requeued unstarted: an equal message is no longer its duplicate."""
        waiting = self._expected.get(likeness)
        if waiting is not None:
            self._keep(likeness, deque(item for item in waiting if item[1] != key))

    def expire(self, now_s: float) -> None:
        """Forget whose window is over."""
        for likeness, waiting in list(self._expected.items()):
            self._keep(likeness, deque(item for item in waiting if item[0] >= now_s))

    def match(self, arrival: Arrival, now_s: float) -> bytes | None:
        """The key of the message that this delivery is, or None where nothing proves it."""
        waiting = self._expected.get(arrival.likeness)
        if not waiting or arrival.has_id or not arrival.delivery.redelivered or not self.queue_is_ours:
            return None
        while waiting:
            until_s, key = waiting.popleft()
            if until_s >= now_s:
                self._keep(arrival.likeness, waiting)
                return key
        self._keep(arrival.likeness, waiting)
        return None

    def _keep(self, likeness: bytes, waiting: deque[tuple[float, bytes]]) -> None:
        if waiting:
            self._expected[likeness] = waiting
        else:
            self._expected.pop(likeness, None)
