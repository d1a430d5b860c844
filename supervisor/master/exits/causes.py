"""Why a child left: its wait status, the master's intent and the marks in its slot -> a cause. Pure; master only.

The two tables below are the published contract (docs/exits.md); the first row that fits gives the cause. Handlers may
leave with any status, so the statuses of ours (0, 75, 78, 124) count only together with the worker's own mark.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Set
from dataclasses import dataclass
from typing import NamedTuple

from supervisor.logs.events import Cause
from supervisor.master.pool.children import Kind
from supervisor.scoreboard.words import Intent, LeavingReason, Running

TIMED_OUT = 124


@dataclass(frozen=True)
class Death:
    """What is known of a dead child. Exactly one of `status` and `signal` is set.

    `running`: its open run; `handled`: how many outcomes it has marked; `untaken`: the consumer has not taken all yet.
    `timer_due`: the kernel's timer for the end of its run was due when it died.
    `oom_evidence`: what the kernel's counters say about a SIGKILL that was not ours: "confirmed", "suspected" or "".
    """

    kind: Kind
    status: int | None
    signal: int | None
    intent: Intent = Intent.NONE
    leaving: LeavingReason | None = None
    running: Running | None = None
    oom_evidence: str = ""
    handled: int = 0
    untaken: bool = False
    timer_due: bool = False

    @classmethod
    def status_and_signal(cls, wait_status: int) -> tuple[int | None, int | None]:
        """The exit status or the signal in `wait_status`, as wait(2) gives it."""
        code = os.waitstatus_to_exitcode(wait_status)
        return (code, None) if code >= 0 else (None, -code)


class _Row(NamedTuple):
    """A row of the table: a fact that is None here may be anything, else it must be one of these, or `running` so."""

    cause: Cause
    status: Set[int] | None = None
    signal: Set[int] | None = None
    intent: Set[Intent] | None = None
    leaving: Set[LeavingReason] | None = None
    running: bool | None = None
    oom_evidence: Set[str] | None = None
    timer_due: bool | None = None

    def fits(self, death: Death) -> bool:
        return (
            (self.status is None or death.status in self.status)
            and (self.signal is None or death.signal in self.signal)
            and (self.intent is None or death.intent in self.intent)
            and (self.leaving is None or death.leaving in self.leaving)
            and (self.running is None or (death.running is not None) is self.running)
            and (self.oom_evidence is None or death.oom_evidence in self.oom_evidence)
            and (self.timer_due is None or death.timer_due is self.timer_due)
        )


_ANY_STATUS = frozenset(range(256))
_KILL = {signal.SIGKILL}
_TERM = {signal.SIGTERM}
_QUIT = {signal.SIGQUIT}
_FAULTS = {
    *(signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE),
    *(signal.SIGILL, signal.SIGTRAP, signal.SIGSYS),
}
"""Signals that a process earns by its own doing."""

_RECYCLED = {
    *(LeavingReason.MESSAGES, LeavingReason.AGE, LeavingReason.MEMORY),
    *(LeavingReason.SPOILED, LeavingReason.FAILING),
}

_OF_SIGNALS = (
    # SIGQUIT asks for the stacks first; it ends a child that has no handler for it yet.
    _Row(Cause.BOOT_FAILED, signal=_KILL | _QUIT, intent={Intent.BOOT_KILL}),
    _Row(Cause.TIMEOUT, signal=_KILL, intent={Intent.TIMEOUT_KILL}),
    _Row(Cause.MEMORY_LIMIT, signal=_KILL, intent={Intent.MEMORY_KILL}),
    _Row(Cause.STOP_KILLED, signal=_KILL, intent={Intent.STOP_KILL}),
    _Row(Cause.CRASH, signal=_KILL, intent={Intent.PROTOCOL_KILL}),
    _Row(Cause.TIMEOUT, signal=_KILL, timer_due=True),
    _Row(Cause.OUT_OF_MEMORY, signal=_KILL, oom_evidence={"confirmed", "suspected"}),
    _Row(Cause.CRASH, signal=_FAULTS),
    _Row(Cause.KILLED),
)

_OF_WORKERS = (
    _Row(Cause.CLEAN_STOP, status={os.EX_OK}, leaving={LeavingReason.STOP}, running=False),
    # It was asked to stop before it had its own handler for SIGTERM.
    _Row(Cause.CLEAN_STOP, signal=_TERM, intent={Intent.STOP}, running=False),
    _Row(Cause.UNEXPECTED_EXIT, status={os.EX_OK}),
    _Row(Cause.RECYCLED, status={os.EX_TEMPFAIL}, leaving=_RECYCLED, running=False),
    _Row(Cause.BOOT_FAILED, status={os.EX_CONFIG}, leaving={LeavingReason.BOOT_FAILED}, running=False),
    _Row(Cause.TIMEOUT, status={TIMED_OUT}, leaving={LeavingReason.TIMEOUT}),
    # The timer of the time limit outlives exec(2), its handler does not.
    _Row(Cause.TIMEOUT, signal={signal.SIGALRM}, running=True),
    _Row(Cause.CRASH, status=_ANY_STATUS),
    *_OF_SIGNALS,
)

_OF_SERVICES = (
    _Row(Cause.CLEAN_STOP, status={os.EX_OK}, intent={Intent.STOP, Intent.STOP_KILL}),
    _Row(Cause.CLEAN_STOP, signal=_TERM, intent={Intent.STOP}),
    _Row(Cause.UNEXPECTED_EXIT, status={os.EX_OK}),
    _Row(Cause.BOOT_FAILED, status={os.EX_CONFIG}),
    # The hang detector asks for stacks first; that alone ends a child without a handler for it.
    _Row(Cause.TIMEOUT, signal=_QUIT, intent={Intent.TIMEOUT_KILL}),
    _Row(Cause.CRASH, status=_ANY_STATUS),
    *_OF_SIGNALS,
)

_TABLES = dict.fromkeys(Kind, _OF_SERVICES) | {Kind.WORKER: _OF_WORKERS}


def cause_of(death: Death) -> Cause:
    """The cause of a death whose status is known (a child that could not be waited for is `lost`)."""
    return next(row.cause for row in _TABLES[death.kind] if row.fits(death))


def run_of(running: bool, untaken: bool) -> str:
    """What became of the dead worker's last run: `in_doubt`, `finished` or `idle`.

    `running`: the run was open; `untaken`: its outcome is in the slot, and the consumer has not taken it yet (a worker
    killed a moment after it finished has finished).
    """
    if running:
        return "in_doubt"
    return "finished" if untaken else "idle"
