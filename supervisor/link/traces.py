"""What is known of one message, for a person who asks why (docs/control-protocol.md). Data only.

Made by the consumer, and by the command line from the ledger itself when no daemon runs.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class TraceFailure(msgspec.Struct, frozen=True):
    """Why a run ended badly. `cause`: an OutcomeKind or an exit's Cause; `at` in RFC 3339."""

    cause: str
    reason: str
    worker: str
    stack: str
    status: int | None
    signal: str | None
    delay_s: float
    at: str


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger row or a waiting message. `failure`: of the last run; `message_id`: where several messages are told."""

    message_id: str | UnsetType = UNSET
    state: str
    round: int
    attempt: int
    at: str = ""
    worker: str = ""
    failure: TraceFailure | None = None
