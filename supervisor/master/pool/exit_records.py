"""The exit record: one for every exit of every child kind. Data only; the master makes them, the history keeps them.

The field names are published (docs/exits.md) and are the same in the log line and in `exits.jsonl`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.logs.events import Cause, Event
from supervisor.master.pool.children import Kind, child_name

EXITED = {kind: Event(f"{kind}.exited") for kind in Kind}

NOT_UNDERSTOOD = "said something that cannot be understood"
"""The beginning of `requested_by` where the master has ended a child for what it has sent."""
NO_FIRST_FRAME = "was not sent its first frame"
"""The same where the system call failed by which a new child is told what it is."""


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One exit. None where nothing is known (`lost`) or nothing applies; `at` in RFC 3339; sizes in bytes."""

    at: str
    event: Event
    kind: Kind
    pool: str
    slot: int | None
    pid: int
    generation: int
    cause: Cause
    status: int | None = None
    signal: str | None = None
    core_dumped: bool = False
    requested_by: str = ""
    uptime_s: float | None = None
    messages: int = 0
    message_id: str = ""
    attempt: int | None = None
    elapsed_s: float | None = None
    limit_s: float | None = None
    limit_source: str = ""
    run: str = "idle"
    max_rss_bytes: int | None = None
    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    oom_evidence: str = ""
    stack: str = ""
    unkillable: str = ""
    restart_in_s: float | None = None

    @property
    def child_name(self) -> str:
        """The name of the place that this child had: `email/3`."""
        return child_name(self.pool, self.kind, self.slot)

    @property
    def ending(self) -> str:
        """`SIGSEGV`, `status 78`, or `status unknown`."""
        return self.signal or ("status unknown" if self.status is None else f"status {self.status}")

    @property
    def summary(self) -> str:
        """How it ended, for people: `email/3 left: crash (SIGSEGV)`, or the frame for which it was ended."""
        if self.requested_by.startswith((NOT_UNDERSTOOD, NO_FIRST_FRAME)):
            return f"{self.child_name} {self.requested_by}"
        return f"{self.child_name} left: {self.cause} ({self.ending})"

    def fields(self) -> dict[str, Any]:
        """What the log line carries besides its head."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in values.items() if name not in ("at", "event")}


class Tally(msgspec.Struct, frozen=True, order=True):
    """What exits are counted by."""

    pool: str
    kind: Kind
    cause: Cause
    status: int | None
    signal: str | None

    @classmethod
    def of(cls, record: ExitRecord) -> Tally:
        """The row that counts this record."""
        return cls(record.pool, record.kind, record.cause, record.status, record.signal)
