"""What is known of one message, for a person who asks why: a ledger row or a waiting entry, as plain values. Pure.

Made by the consumer when the master asks (`Find`), and by the command line from the ledger itself when no daemon runs;
the fields are in docs/control-protocol.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.consumer.settlement.messages import Entry, Failure
from supervisor.ledger.base import Row
from supervisor.system.clock import rfc3339

WAITING = "waiting"
"""The state of a message that was delivered and that nobody runs yet: it has no row that says so."""


def trace_of(pool: str, row: Row, ahead_s: float = 0.0) -> dict[str, Any]:
    """The facts of a row; `failure` is why the last run ended badly, None where it did not.

    `ahead_s`: the wall clock minus the ledger's time, which differ once the clock was set.
    """
    trace = _trace(row.state.value, row.round, row.attempt)
    if row.note:
        trace["failure"] = _failure(msgspec.msgpack.decode(row.note, type=Failure))
    return trace | {"at": rfc3339(row.at_s + ahead_s), "worker": f"{pool}/{row.slot}" if row.slot >= 0 else ""}


def trace_of_waiting(entry: Entry) -> dict[str, Any]:
    """What is known of a message that waits for a worker."""
    return _trace(WAITING, entry.round, entry.attempt)


def trace_of_missing(entry: Entry) -> dict[str, Any]:
    """What is known of a failed message that has not come back, with its id. The entry has its failure."""
    if entry.failure is None or entry.pending is None:
        raise ValueError("only a decided message is waited for")
    failure = _failure(entry.failure.in_short)
    trace = _trace(entry.pending.value, entry.round, entry.attempt)
    return {"message_id": entry.id} | trace | {"at": failure["at"], "failure": failure}


def trace_of_lost(pool: str, row: Row, ahead_s: float) -> dict[str, Any]:
    """The facts of a row whose retry copy is lost, with its id."""
    return {"message_id": row.id} | trace_of(pool, row, ahead_s)


def _failure(noted: Failure) -> dict[str, Any]:
    failure: dict[str, Any] = msgspec.to_builtins(noted) | {"delay_s": noted.waits_s or 0.0}
    del failure["pending"], failure["lost"]
    failure["at"] = rfc3339(failure.pop("at_s"))
    return failure


def _trace(state: str, round: int, attempt: int) -> dict[str, Any]:
    return {"state": state, "round": round, "attempt": attempt, "at": "", "worker": "", "failure": None}
