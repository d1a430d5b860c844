"""Messages that failed and are where they should be no more: the original before its copy was made, or the retry copy.

Part of the settlement, in the consumer process; pure. A queue was purged or deleted, or another consumer took them. An
original that does not come back to its empty queue is waited for, and given up after a while, by an operator, or when
a later run of it shows that another daemon has carried it on. A lost
retry copy is on record until the message is published again, comes after all, or an operator lets it go.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import NamedTuple, TypeVar

import msgspec

from supervisor.brokers.names import retry_queue
from supervisor.consumer.settlement.messages import Entry, Failure, Phase, failure_of
from supervisor.consumer.settlement.unit_of_work import UnitOfWork
from supervisor.ledger.base import Row, RowState
from supervisor.logs.events import Event

MISSING_S = 600.0
"""How long a message may be missing from its empty queue before the consumer stops waiting for it."""
MOST = 50_000
"""So many copies are watched at most: some 15 MB."""
EMPTY_S = 30.0
"""How long a delay queue must be empty: RabbitMQ also says 0 for a moment while a queue has no leader."""

SHARED_S = 120.0
"""How long there must be other consumers before a copy may have gone to them: longer than a broker waits for a dead
connection of ours."""

_About = TypeVar("_About", Entry, Row)
Note = Callable[[UnitOfWork, _About, str], None]
"""Records what became of a message that is missing; the last argument: by whom, or why."""


TAKEN = (
    "has not come back, although its queue is empty: another consumer has taken it, or it was purged; no copy of it "
    "can be made, unless it comes"
)
OVERTAKEN = "is carried on by another daemon, as a later run shows that has come: no copy of it is made here"
"""Why the wait for a failed message ends, for people."""


def dropped_by(operator: str) -> str:
    """The same, by order of this operator."""
    return f"has not come back: dropped by {operator}; if it comes, its copy is made"


def missing(entries: Iterable[Entry]) -> list[Entry]:
    """Those that failed and have not come back since the consumer started, the oldest first."""
    return [entry for entry in entries if entry.phase is Phase.COPYING and entry.delivery is None]


def given_up(entries: Iterable[Entry], now_s: float) -> list[Entry]:
    """Those that have been missing for too long. Called while their queue is empty and subscribed to.

    Then none of them is in it. Another consumer has settled it, or may have it; if that gives it back, and it comes, it
    gets its copy. So nothing is lost by no longer waiting for it.
    """
    found = missing(entries)
    for entry in found:
        if entry.missing_since_s is None:
            entry.missing_since_s = now_s
    return [entry for entry in found if now_s - (entry.missing_since_s or 0.0) >= MISSING_S]


def give_up(decisions: UnitOfWork, entry: Entry, why: str) -> None:
    """Stop waiting for a failed message: no copy of it can be made. If it comes after all, the copy is made then.

    `why`: one of the texts above. Raises ValueError where the message has not failed.
    """
    if entry.failure is None or entry.pending is None:
        raise ValueError("only a decided message is waited for")
    decisions.count("gone")
    failure = msgspec.structs.replace(entry.failure.in_short, pending=entry.pending, lost="")
    _record(decisions, entry, failure, f"message {entry.id!r} failed and {why}")


def hand_over(decisions: UnitOfWork, entry: Entry, by: str = "") -> None:
    """Of several daemons that share a ledger, the one that gets this failed message makes its copy.

    Raises ValueError where the message has not failed.
    """
    if entry.failure is None or entry.pending is None:
        raise ValueError("only a decided message is handed over")
    decisions.record(entry, RowState.GONE, msgspec.structs.replace(entry.failure.in_short, pending=entry.pending))


def lose(decisions: UnitOfWork, row: Row, why: str) -> None:
    """The retry copy of this RETRY row is lost, and the message with it. `why`: how, for people. The same message,
    published again, gets the copy that was decided."""
    text = (
        f"message {row.id!r} is lost: attempt {row.attempt} failed, and its copy for the next one is at the broker no "
        f"more ({why}); publish it again with the same id and content, and that attempt follows"
    )
    decisions.count("gone")
    failure = msgspec.structs.replace(failure_of(row), pending=RowState.RETRY_PENDING, lost=why)
    _record(decisions, Entry.of(row), failure, text)


def let_go(decisions: UnitOfWork, row: Row, by: str) -> None:
    """The operator `by` has given up this lost message: it is not listed again."""
    text = f"message {row.id!r}, whose retry is lost: dropped by {by}; published again, it gets its next attempt"
    _record(decisions, Entry.of(row), msgspec.structs.replace(failure_of(row), lost=""), text)


def _record(decisions: UnitOfWork, entry: Entry, failure: Failure, text: str) -> None:
    decisions.record(entry, RowState.GONE, failure)
    decisions.say_failure(Event.MESSAGE_GONE, text, entry, failure, warning=True)


class _Copy(NamedTuple):
    """Where it waits; when it was confirmed, and when its delay is over (the ledger's time)."""

    queue: str
    confirmed_s: float
    due_s: float


class WaitingRetries:
    """Retry copies that wait in delay queues, as the ledger has them, and which of them can no longer be there.

    Of one pool's queue, by the key of their messages. The broker has confirmed such a copy and the original is acked,
    so a delay queue that is deleted or purged takes the message with it. A copy is lost when its delay queue is
    missing, or stays empty, before the delay is over; or when it has not come back long after that, to a queue that is
    empty and ours alone.
    """

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
