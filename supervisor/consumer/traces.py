"""What is known of one message, for a person who asks why: a ledger row or a waiting entry, as plain values. Pure.

Made by the consumer when the master asks (`Find`), and by the command line from the ledger itself when no daemon runs;
the fields are in docs/control-protocol.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.clock import rfc3339
from supervisor.consumer.entries import Entry, Failure
from supervisor.ledger.base import Row

WAITING = "waiting"
"""The state of a message that was delivered and that nobody runs yet: it has no row that says so."""


def trace_of(pool: str, row: Row, ahead_s: float = 0.0) -> dict[str, Any]:
    """What a row says; `failure` is why the last run ended badly, None where it did not.

    `ahead_s`: the wall clock minus the ledger's time, which differ once somebody has set the clock.
    """
    trace = _trace(row.state.value, row.round, row.attempt)
    if row.note:
        noted = msgspec.msgpack.decode(row.note, type=Failure)
        failure = msgspec.to_builtins(noted) | {"delay_s": noted.waits_s or 0.0}
        del failure["pending"]
        failure["at"] = rfc3339(failure.pop("at_s"))
        trace["failure"] = failure
    return trace | {"at": rfc3339(row.at_s + ahead_s), "worker": f"{pool}/{row.slot}" if row.slot >= 0 else ""}


def trace_of_waiting(entry: Entry) -> dict[str, Any]:
    """What is known of a message that waits for a worker."""
    return _trace(WAITING, entry.round, entry.attempt)


def _trace(state: str, round: int, attempt: int) -> dict[str, Any]:
    return {"state": state, "round": round, "attempt": attempt, "at": "", "worker": "", "failure": None}
