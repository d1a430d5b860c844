"""Messages that failed and are where they should be no more: the original before its copy was made, or the retry copy.

Part of the settlement, in the consumer process; pure. A queue was purged or deleted, or another consumer took them. An
original that does not come back to its empty queue is waited for, and given up after a while or by an operator. A lost
retry copy is on record until the message is published again, comes after all, or an operator lets it go.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from supervisor.consumer.settlement.messages import Entry, Failure, Phase, failure_of
from supervisor.consumer.settlement.unit_of_work import UnitOfWork
from supervisor.ledger.base import Row, RowState
from supervisor.logs.events import Event

MISSING_S = 600.0
"""How long a message may be missing from its empty queue before the consumer stops waiting for it."""


def missing(entries: Iterable[Entry]) -> list[Entry]:
    """Those that failed and have not come back since the consumer started, the oldest first."""
    return [entry for entry in entries if entry.phase is Phase.COPYING and entry.delivery is None]


def given_up(entries: Iterable[Entry], now_s: float) -> list[Entry]:
    """Those that have been missing for too long. Called while their queue is empty, ours alone, and subscribed to."""
    found = missing(entries)
    for entry in found:
        if entry.missing_since_s is None:
            entry.missing_since_s = now_s
    return [entry for entry in found if now_s - (entry.missing_since_s or 0.0) >= MISSING_S]


def give_up(decisions: UnitOfWork, entry: Entry, by: str) -> None:
    """Stop waiting for a failed message: no copy of it can be made. If it comes after all, the copy is made then.

    `by`: the operator that has given it up, "" for none. Raises ValueError where the message has not failed.
    """
    if entry.failure is None or entry.pending is None:
        raise ValueError("only a decided message is waited for")
    text = f"message {entry.id!r} failed and is in its queue no more (purged?): no copy of it can be made"
    if by:
        text = f"message {entry.id!r} failed and has not come back: dropped by {by}; if it comes, its copy is made"
    decisions.count("gone")
    _record(decisions, entry, msgspec.structs.replace(entry.failure.in_short, pending=entry.pending, lost=""), text)


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
