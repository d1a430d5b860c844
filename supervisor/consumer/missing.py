"""Messages that failed while no consumer had them, and are no longer in their queue when one connects. Pure.

Part of the settlement, in the consumer process. The queue was purged, or another consumer took them. No copy can
be made, and an endless wait would keep their rows open for ever. An operator may end the wait sooner.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.consumer.entries import Entry, Phase

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


def gone(entry: Entry, by: str = "") -> str:
    """The log's text about one. `by`: the operator that has given it up, "" for none."""
    if by:
        return f"message {entry.id!r} failed and has not come back: given up by {by}; if it comes, its copy is made"
    return f"message {entry.id!r} failed and is in its queue no more (purged?): no copy of it can be made"
