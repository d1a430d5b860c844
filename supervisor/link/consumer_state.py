"""What a consumer reports, as `status` and `why` show it (docs/control-protocol.md): the parts of its Snapshot, and
what it knows of one message. Data only.

Made by the consumer and passed on by the master: a value of another type or range is refused when the frame is decoded,
not when the page, the metrics or systemd's status line trip over it. When no daemon runs, the command line makes traces
from the ledger itself.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from supervisor.link.identities import Count, Seconds

State = Annotated[str, msgspec.Meta(min_length=1)]


class ConnectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The consumer's connection to the broker; `since_s`: for how long it has been in this state."""

    state: State = "connecting"
    host: str = ""
    since_s: Seconds = 0.0
    opened: Count = 0
    why: str = ""


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The pool's queue as the broker has told last. `declared`: how the queue was made, where it did not exist."""

    ready: Count = 0
    consumers: Count = 0
    name: str | UnsetType = UNSET
    declared: str | UnsetType = UNSET


class Durations(msgspec.Struct, frozen=True):
    """A histogram in seconds: upper bounds, a count for each and one for what is longer; not cumulative."""

    le: tuple[float, ...]
    counts: tuple[Count, ...]
    sum: float
    count: Count


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """What metrics are drawn from; empty until the consumer has said something."""

    outcomes: dict[str, int] | UnsetType = UNSET
    handler_s: Durations | UnsetType = UNSET
    commit_s: Durations | UnsetType = UNSET
    ledger: dict[str, int] | UnsetType = UNSET
    evicted_early: Count | UnsetType = UNSET
    publishes: dict[str, int] | UnsetType = UNSET
    connections: dict[str, int] | UnsetType = UNSET
    symptoms: list[str] | UnsetType = UNSET


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
    """One message, of its row or as it waits. `failure`: of the last run; `message_id`: where several are told;
    `missing`: set where it has failed and its queue has not brought it back; `holder`: the host that has a held one."""

    message_id: str | UnsetType = UNSET
    state: str
    round: int
    attempt: int
    at: str = ""
    worker: str = ""
    failure: TraceFailure | None = None
    missing: bool | UnsetType = UNSET
    holder: str | UnsetType = UNSET
