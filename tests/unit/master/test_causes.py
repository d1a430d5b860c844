"""The published table of causes (design: exits), row by row, and what must not be taken for something else."""

from __future__ import annotations

import signal

import pytest

from supervisor.link.identities import RunId
from supervisor.logs.events import Cause
from supervisor.master.exits.causes import Death, cause_of, run_of
from supervisor.master.pool.children import Kind
from supervisor.scoreboard.words import Intent, LeavingReason, LimitSource, Running

RUNNING = Running(1, RunId(b"key", 1, 1), "m-1", 0.0, 0.0, 0.0, LimitSource.POOL, False)
WORKER, FORKSERVER, CONSUMER = Kind.WORKER, Kind.FORKSERVER, Kind.CONSUMER


def exited(status: int, **facts: object) -> Death:
    return Death(**{"kind": WORKER, "status": status, "signal": None, **facts})  # type: ignore[arg-type]


def killed(signum: int, **facts: object) -> Death:
    return Death(**{"kind": WORKER, "status": None, "signal": int(signum), **facts})  # type: ignore[arg-type]


ROWS = [
    (exited(0, leaving=LeavingReason.STOP, intent=Intent.STOP), Cause.CLEAN_STOP),
    (exited(0, leaving=LeavingReason.STOP), Cause.CLEAN_STOP),
    (exited(0), Cause.UNEXPECTED_EXIT),
    (exited(0, running=RUNNING), Cause.UNEXPECTED_EXIT),
    (exited(0, intent=Intent.STOP), Cause.UNEXPECTED_EXIT),
    (exited(0, leaving=LeavingReason.STOP, running=RUNNING), Cause.UNEXPECTED_EXIT),
    (exited(75, leaving=LeavingReason.MESSAGES), Cause.RECYCLED),
    (exited(75, leaving=LeavingReason.AGE), Cause.RECYCLED),
    (exited(75, leaving=LeavingReason.MEMORY), Cause.RECYCLED),
    (exited(75), Cause.CRASH),
    (exited(75, leaving=LeavingReason.STOP), Cause.CRASH),
    (exited(75, leaving=LeavingReason.MESSAGES, running=RUNNING), Cause.CRASH),
    (exited(78, leaving=LeavingReason.BOOT_FAILED), Cause.BOOT_FAILED),
    (exited(78), Cause.CRASH),
    (exited(78, running=RUNNING), Cause.CRASH),
    (exited(124, leaving=LeavingReason.TIMEOUT, running=RUNNING), Cause.TIMEOUT),
    (exited(124, running=RUNNING), Cause.CRASH),
    (exited(70, leaving=LeavingReason.FAILED), Cause.CRASH),
    (exited(1), Cause.CRASH),
    (exited(255), Cause.CRASH),
    (killed(signal.SIGKILL, intent=Intent.TIMEOUT_KILL, running=RUNNING), Cause.TIMEOUT),
    (killed(signal.SIGKILL, intent=Intent.MEMORY_KILL, running=RUNNING), Cause.MEMORY_LIMIT),
    (killed(signal.SIGKILL, intent=Intent.STOP_KILL, running=RUNNING), Cause.STOP_KILLED),
    (killed(signal.SIGKILL, intent=Intent.TIMEOUT_KILL, oom_evidence="confirmed"), Cause.TIMEOUT),
    (killed(signal.SIGALRM, running=RUNNING), Cause.TIMEOUT),
    (killed(signal.SIGALRM), Cause.KILLED),
    (killed(signal.SIGKILL, timer_due=True, running=RUNNING), Cause.TIMEOUT),
    (killed(signal.SIGKILL, timer_due=True, intent=Intent.STOP, running=RUNNING), Cause.TIMEOUT),
    (killed(signal.SIGKILL, timer_due=True, oom_evidence="suspected", running=RUNNING), Cause.TIMEOUT),
    (killed(signal.SIGKILL, timer_due=True, intent=Intent.MEMORY_KILL, running=RUNNING), Cause.MEMORY_LIMIT),
    (killed(signal.SIGTERM, timer_due=True, running=RUNNING), Cause.KILLED),
    (killed(signal.SIGKILL, timer_due=False, running=RUNNING), Cause.KILLED),
    (killed(signal.SIGKILL), Cause.KILLED),
    (killed(signal.SIGKILL, intent=Intent.STOP), Cause.KILLED),
    (killed(signal.SIGKILL, oom_evidence="confirmed"), Cause.OUT_OF_MEMORY),
    (killed(signal.SIGKILL, oom_evidence="suspected"), Cause.OUT_OF_MEMORY),
    (killed(signal.SIGSEGV), Cause.CRASH),
    (killed(signal.SIGABRT, intent=Intent.TIMEOUT_KILL), Cause.CRASH),
    (killed(signal.SIGBUS, oom_evidence="confirmed"), Cause.CRASH),
    (killed(signal.SIGTERM), Cause.KILLED),
    (killed(signal.SIGTERM, intent=Intent.STOP), Cause.CLEAN_STOP),
    (killed(signal.SIGTERM, intent=Intent.STOP, running=RUNNING), Cause.KILLED),
    (killed(signal.SIGHUP), Cause.KILLED),
    (killed(40), Cause.KILLED),
    (exited(0, kind=FORKSERVER, intent=Intent.STOP), Cause.CLEAN_STOP),
    (exited(0, kind=CONSUMER), Cause.UNEXPECTED_EXIT),
    (exited(78, kind=FORKSERVER), Cause.BOOT_FAILED),
    (exited(78, kind=CONSUMER), Cause.BOOT_FAILED),
    (exited(75, kind=CONSUMER), Cause.CRASH),
    (exited(1, kind=FORKSERVER), Cause.CRASH),
    (killed(signal.SIGKILL, kind=CONSUMER), Cause.KILLED),
    (killed(signal.SIGKILL, kind=CONSUMER, intent=Intent.TIMEOUT_KILL), Cause.TIMEOUT),
    (killed(signal.SIGQUIT, kind=CONSUMER, intent=Intent.TIMEOUT_KILL), Cause.TIMEOUT),
    (killed(signal.SIGQUIT, kind=CONSUMER), Cause.KILLED),
    (killed(signal.SIGKILL, kind=FORKSERVER, intent=Intent.STOP_KILL), Cause.STOP_KILLED),
    (killed(signal.SIGKILL, kind=FORKSERVER, oom_evidence="confirmed"), Cause.OUT_OF_MEMORY),
    (killed(signal.SIGSEGV, kind=CONSUMER), Cause.CRASH),
]


@pytest.mark.parametrize(("death", "cause"), ROWS, ids=str)
def test_every_death_has_the_cause_that_is_published(death: Death, cause: Cause) -> None:
    assert cause_of(death) is cause


@pytest.mark.parametrize("kind", Kind)
def test_no_death_is_without_a_cause(kind: Kind) -> None:
    for intent in Intent:
        for leaving in (None, *LeavingReason):
            for status in range(256):
                assert cause_of(Death(kind, status, None, intent, leaving)) in Cause
            for signum in range(1, 65):
                assert cause_of(Death(kind, None, signum, intent, leaving)) in Cause


@pytest.mark.parametrize("status", [0, 75, 78, 124])
def test_a_status_of_ours_from_a_handler_is_never_taken_for_ours(status: int) -> None:
    ours = {Cause.CLEAN_STOP, Cause.RECYCLED, Cause.BOOT_FAILED, Cause.TIMEOUT}
    assert cause_of(exited(status, running=RUNNING)) not in ours
    assert cause_of(exited(status)) not in ours


@pytest.mark.parametrize("intent", [Intent.STOP_KILL, Intent.TIMEOUT_KILL, Intent.MEMORY_KILL])
def test_our_own_kill_is_never_laid_on_the_oom_killer(intent: Intent) -> None:
    assert cause_of(killed(signal.SIGKILL, intent=intent, oom_evidence="confirmed")) is not Cause.OUT_OF_MEMORY


def test_a_worker_killed_a_moment_after_it_finished_has_finished() -> None:
    assert run_of(running=False, untaken=True) == "finished"
    assert run_of(running=True, untaken=True) == "in_doubt"
    assert run_of(running=False, untaken=False) == "idle"


def test_wait_statuses_are_read_as_status_or_signal() -> None:
    assert Death.status_and_signal(3 << 8) == (3, None)
    assert Death.status_and_signal(11 | 0x80) == (None, 11)
