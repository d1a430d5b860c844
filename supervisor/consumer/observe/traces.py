"""What is known of one message, for a person who asks why: from a ledger row or a waiting entry. Pure.

Made by the consumer when the master asks (`Find`), and by the command line from the ledger itself when no daemon runs.
"""

from __future__ import annotations

import msgspec

from supervisor.consumer.settlement.messages import Entry, Failure, Phase, failure_of
from supervisor.ledger.base import Row
from supervisor.link.consumer_state import Trace, TraceFailure
from supervisor.system.clock import rfc3339

WAITING = "waiting"
"""The state of a delivered message that waits for a worker: no row says so."""
HELD = "held"
"""The state of a message that another host of the fleet has in hand, while this one has a delivery of it."""


def trace_of(pool: str, row: Row, ahead_s: float = 0.0) -> Trace:
    """The trace of a row; `failure` is why the last run ended badly, None where it did not.

    `ahead_s`: the wall clock minus the ledger's time, which differ once the clock was set.
    """
    return Trace(
        state=row.state.value,
        round=row.round,
        attempt=row.attempt,
        at=rfc3339(row.at_s + ahead_s),
        worker=f"{pool}/{row.slot}" if row.slot >= 0 else "",
        failure=_failure(failure) if row.note and (failure := failure_of(row)).cause else None,
    )


def trace_of_waiting(entry: Entry) -> Trace:
    """What is known of a message that waits for a worker, or for another host."""
    if entry.phase is Phase.HELD:
        return Trace(state=HELD, round=entry.round, attempt=entry.attempt, holder=entry.holder)
    return Trace(state=WAITING, round=entry.round, attempt=entry.attempt)


def trace_of_missing(entry: Entry) -> Trace:
    """What is known of a failed message that has not come back, with its id.

    Raises ValueError for an entry that has no failure, or is not decided.
    """
    if entry.failure is None or entry.pending is None:
        raise ValueError("only a decided message is waited for")
    failure = _failure(entry.failure.in_short)
    return Trace(
        message_id=entry.id,
        state=entry.pending.value,
        round=entry.round,
        attempt=entry.attempt,
        at=failure.at,
        failure=failure,
        missing=True,
    )


def trace_of_lost(pool: str, row: Row, ahead_s: float) -> Trace:
    """The trace of a row whose retry copy is lost, with its id."""
    return msgspec.structs.replace(trace_of(pool, row, ahead_s), message_id=row.id)


def _failure(noted: Failure) -> TraceFailure:
    return TraceFailure(
        noted.cause,
        noted.reason,
        noted.worker,
        noted.stack,
        noted.status,
        noted.signal,
        noted.waits_s or 0.0,
        rfc3339(noted.at_s),
    )
