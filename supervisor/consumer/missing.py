"""Messages that failed while no consumer had them, and are in their queue no more when one comes. Pure.

Part of the settlement, in the consumer process. Somebody has purged the queue, or taken them out: no copy can be made,
and to wait for them without end would keep their rows open for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.consumer.entries import Entry, Phase

MISSING_S = 600.0
"""How long a message may be missing from its empty queue before the consumer stops waiting for it."""


def given_up(entries: Iterable[Entry], now_s: float) -> list[Entry]:
    """Those that have been missing for too long. Called while their queue is empty, ours alone, and subscribed to."""
    missing = [entry for entry in entries if entry.phase is Phase.COPYING and entry.delivery is None]
    for entry in missing:
        if entry.missing_since_s is None:
            entry.missing_since_s = now_s
    return [entry for entry in missing if now_s - (entry.missing_since_s or 0.0) >= MISSING_S]


def gone(entry: Entry) -> str:
    """What a person is told of one."""
    return f"message {entry.id!r} failed and is in its queue no more (purged?): no copy of it can be made"
