"""The words that slots carry between processes: outcomes, reasons for leaving, the master's intents, limit sources."""

from __future__ import annotations

import os
from enum import IntEnum, StrEnum

import msgspec

from supervisor.link.frames import RunId


class OutcomeKind(StrEnum):
    """How a run ended, as its worker marked it. `in_doubt` is marked by the slot's next owner, for a dead worker.

    A slot has its place here as its code, from 1 on: a new one comes last.
    """

    DONE = "done"
    FAILED = "failed"  # the handler raised
    RETRY = "retry"  # Retry(delay)
    REJECT = "reject"  # Reject(reason)
    SOFT_TIMEOUT = "soft_timeout"
    PUBLISH_FAILED = "publish_failed"  # returned, but its publishes were not confirmed
    IN_DOUBT = "in_doubt"


class LeavingReason(StrEnum):
    """Why a worker exits by itself. Without such a mark its exit status proves nothing.

    A slot has its place here as its code, from 1 on: a new one comes last.
    """

    STOP = "stop"  # SIGTERM, or the master is gone
    MESSAGES = "messages"
    AGE = "age"
    MEMORY = "memory"
    TIMEOUT = "timeout"
    BOOT_FAILED = "boot_failed"
    FAILED = "failed"  # the worker itself failed (70)
    SPOILED = "spoiled"  # user code changed the process irreversibly
    FAILING = "failing"  # its runs fail in a row while other workers succeed


EXIT_STATUS = {
    LeavingReason.STOP: os.EX_OK,
    LeavingReason.MESSAGES: os.EX_TEMPFAIL,
    LeavingReason.AGE: os.EX_TEMPFAIL,
    LeavingReason.MEMORY: os.EX_TEMPFAIL,
    LeavingReason.TIMEOUT: 124,
    LeavingReason.BOOT_FAILED: os.EX_CONFIG,
    LeavingReason.FAILED: os.EX_SOFTWARE,
    LeavingReason.SPOILED: os.EX_TEMPFAIL,
    LeavingReason.FAILING: os.EX_TEMPFAIL,
}
"""The exit status of a worker for each reason: a published contract (docs/exits.md)."""


class Intent(IntEnum):
    """What the master is about to do to a worker, written before it sends any signal."""

    NONE = 0
    STOP = 1  # SIGTERM: finish and exit
    STOP_KILL = 2
    TIMEOUT_KILL = 3
    MEMORY_KILL = 4
    PROTOCOL_KILL = 5  # it sent an invalid frame, or its first frame could not be sent
    BOOT_KILL = 6  # it was not ready within boot_timeout


class LimitSource(IntEnum):
    """The source of the time limit in force."""

    POOL = 0
    MESSAGE = 1
    EXTENDED = 2


class Running(msgspec.Struct, frozen=True):
    """The run of a worker. `started_at_s`: wall clock; `started_s`, `deadline_s` (0: none): CLOCK_MONOTONIC.

    `database`: the identity of the database whose inbox it uses, 16 bytes; b"" if it uses none.
    """

    number: int  # counts the runs of this slot file, from 1
    run: RunId
    message_id: str
    started_at_s: float
    started_s: float
    deadline_s: float
    source: LimitSource
    publishing: bool
    database: bytes = b""

    @property
    def limit_s(self) -> float:
        """The time limit of this run in seconds, extensions included; 0 while no limit is in force."""
        return max(0.0, self.deadline_s - self.started_s)


class Identity(msgspec.Struct, frozen=True):
    """The present or last owner of a slot. `start_ticks`: field 22 of /proc/PID/stat; `boot_id`: the kernel's.

    `since`: marks are complete from this generation on; none was lost by damage or reboot. `base`: the ring's head when
    the slot was taken.
    """

    pid: int
    start_ticks: int
    generation: int
    boot_id: str
    ready: bool
    since: int
    base: int


class Cell(msgspec.Struct, frozen=True):
    """One outcome in the ring. `index`: counts from 0 over the life of the slot file; run number n has index n - 1.

    `database`: as in `Running`.
    """

    index: int
    run: RunId
    generation: int
    kind: OutcomeKind
    delay_s: float | None
    elapsed_s: float
    text: str  # reason and the end of the stack, capped
    database: bytes = b""
