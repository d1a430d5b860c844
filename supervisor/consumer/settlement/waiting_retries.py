"""Retry copies that wait in delay queues, as the ledger has them, and which of them can no longer be there. Pure.

In the consumer process. The broker has confirmed such a copy and the original is acked, so a delay queue that is
deleted or purged takes the message with it. A copy is lost when its delay queue is missing, or stays empty, before the
delay is over; or when it has not come back long after that, to a queue that is empty and ours alone.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from supervisor.brokers.names import retry_queue
from supervisor.consumer.settlement.messages import failure_of
from supervisor.consumer.settlement.missing import MISSING_S
from supervisor.ledger.base import Row

MOST = 50_000
"""So many copies are watched at most: some 15 MB."""
EMPTY_S = 30.0
"""How long a delay queue must be empty: RabbitMQ also says 0 for a moment while a queue has no leader."""

SHARED_S = 120.0
"""How long there must be other consumers before a copy may have gone to them: longer than a broker waits for a dead
connection of ours."""


class _Copy(NamedTuple):
    """Where it waits; when it was confirmed, and when its delay is over (the ledger's time)."""

    queue: str
    confirmed_s: float
    due_s: float


class WaitingRetries:
    """Those of one pool's queue, by the key of their messages."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._copies: dict[bytes, _Copy] = {}
        self._missing_s: dict[str, float] = {}  # when a delay queue was found missing last
        self._empty_s: dict[str, float] = {}  # since when a delay queue has been empty
        self._shared_s: float | None = None  # since when others consume as well
        self._overdue_s: dict[bytes, float] = {}  # since when a copy has been missing from the empty queue

    def __len__(self) -> int:
        return len(self._copies)

    def add(self, row: Row) -> str:
        """The copy of this RETRY row waits; why it is lost all the same, "" where it is not."""
        delay_s = failure_of(row).waits_s
        queue = retry_queue(self._queue, delay_s) if delay_s else self._queue
        copy = _Copy(queue, row.at_s, row.at_s + (delay_s or 0.0))
        missing_s = self._missing_s.get(queue)
        if missing_s is not None and copy.confirmed_s < missing_s < copy.due_s:
            return _deleted(queue)
        if len(self._copies) < MOST:
            self._copies[row.key] = copy
        return ""

    def forget(self, key: bytes) -> None:
        """The message with this `key` has come back, or is given up."""
        self._copies.pop(key, None)
        self._overdue_s.pop(key, None)

    def shared(self, now_s: float) -> None:
        """Others consume as well. What has left its delay queue may have come back to them; but right after a lost
        connection the other consumer may be our own former one."""
        if self._shared_s is None:
            self._shared_s = now_s
        self._overdue_s.clear()
        if now_s - self._shared_s >= SHARED_S:
            for key in [key for key, copy in self._copies.items() if copy.due_s <= now_s]:
                self.forget(key)

    def begin_again(self) -> None:
        """There was no connection: the time without one says nothing about any queue."""
        self._shared_s = None
        self._empty_s.clear()
        self._overdue_s.clear()

    def delay_queues(self, now_s: float) -> list[str]:
        """Those in which copies wait now."""
        return sorted({copy.queue for copy in self._copies.values() if copy.due_s > now_s})

    def missing(self, queue: str, now_s: float) -> dict[bytes, str]:
        """This delay queue was not there: the copies that were in it, with the reason of their loss."""
        self._missing_s[queue] = now_s
        self._empty_s.pop(queue, None)
        return dict.fromkeys(self._in(queue, now_s, now_s), _deleted(queue))

    def held(self, queue: str, messages: int, now_s: float) -> dict[bytes, str]:
        """A delay queue has so many `messages`: the copies that cannot be in it, with the reason of their loss."""
        if messages:
            self._empty_s.pop(queue, None)
            return {}
        since_s = self._empty_s.setdefault(queue, now_s)
        if now_s - since_s < EMPTY_S:
            return {}
        why = f"{queue!r} is empty before its time: it was purged, or its messages were taken or dropped"
        return dict.fromkeys(self._in(queue, since_s, now_s), why)

    def overdue(self, now_s: float, here: Container[bytes]) -> dict[bytes, str]:
        """The queue is empty, ours alone and subscribed to: those that should have come back long ago. `here`: keys of
        messages in hand."""
        self._shared_s = None
        lost: dict[bytes, str] = {}
        for key, copy in self._copies.items():
            if copy.due_s <= now_s and key not in here:
                if now_s - self._overdue_s.setdefault(key, now_s) >= MISSING_S:
                    lost[key] = f"it has not come back from {copy.queue!r}: that was purged, or the copy was dropped"
            else:
                self._overdue_s.pop(key, None)
        return lost

    def _in(self, queue: str, confirmed_by_s: float, now_s: float) -> list[bytes]:
        return [
            key
            for key, copy in self._copies.items()
            if copy.queue == queue and copy.confirmed_s <= confirmed_by_s and copy.due_s > now_s
        ]


def _deleted(queue: str) -> str:
    return f"{queue!r} was deleted"
