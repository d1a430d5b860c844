"""Ending a worker in mid-message: only the run over its limit is killed; a worker that has moved on goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.link.frames import RunId
from supervisor.master.limits.run_limits import KillSequence
from supervisor.master.pool.children import Child, Kind
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import Intent, LimitSource, OutcomeKind
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from tests.support.waiting import eventually

GENERATION = 7


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    slot = Slot(tmp_path / "0.slot")
    assert slot.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, GENERATION)
    return slot


def begin(slot: Slot, number: int) -> None:
    slot.mark_running(RunId(bytes([number]) * 24, 1, 1), f"m{number}", 0.0, monotonic_s(), 1.0, LimitSource.POOL)


def finish(slot: Slot) -> None:
    slot.mark_outcome(OutcomeKind.DONE, None, 0.1, "")


def condemn(process: subprocess.Popen[bytes], slot: Slot, over_limit: bool = True) -> Callable[[], bool]:
    """Step through an execution until it is over; for `eventually`."""
    child = Child("email", Kind.WORKER, 0, process.pid, posix.start_ticks(process.pid) or 0, GENERATION, 0.0)
    execution = KillSequence(child, slot, Intent.TIMEOUT_KILL, "time limit", lambda running, now_s: over_limit, None)
    execution.step(monotonic_s())
    return lambda: execution.step(monotonic_s())


def test_a_run_over_its_limit_is_killed_under_its_intent(process: subprocess.Popen[bytes], slot: Slot) -> None:
    begin(slot, 1)
    eventually(condemn(process, slot), "the execution is over")
    assert process.wait() == -signal.SIGKILL
    assert slot.intent(GENERATION) is Intent.TIMEOUT_KILL


def nothing_more(slot: Slot) -> None:
    finish(slot)


def the_next_message(slot: Slot) -> None:
    finish(slot)
    begin(slot, 2)


@pytest.mark.parametrize("moved_on", [nothing_more, the_next_message])
def test_a_worker_that_has_moved_on_is_continued(
    process: subprocess.Popen[bytes], slot: Slot, moved_on: Callable[[Slot], None]
) -> None:
    begin(slot, 1)
    over = condemn(process, slot)
    moved_on(slot)
    eventually(over, "the execution is over")
    eventually(lambda: posix.executes(process.pid), "the worker goes on")
    assert slot.intent(GENERATION) is Intent.NONE


def test_a_run_that_was_given_more_time_is_continued(process: subprocess.Popen[bytes], slot: Slot) -> None:
    begin(slot, 1)
    eventually(condemn(process, slot, over_limit=False), "the execution is over")
    eventually(lambda: posix.executes(process.pid), "the worker goes on")


def test_while_it_is_judged_the_worker_cannot_run(process: subprocess.Popen[bytes], slot: Slot) -> None:
    begin(slot, 1)
    condemn(process, slot)
    eventually(lambda: not posix.executes(process.pid), "the worker is stopped")
