"""Limits decided without a signal: which is in force, how far it moves, what may be interrupted, what is timed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from types import FrameType, FunctionType
from typing import Any

import pytest

from supervisor.config.schema import PoolConfig
from supervisor.scoreboard.words import LimitSource
from supervisor.system.clock import boottime_s, monotonic_s
from supervisor.system.kill_timer import KillTimer
from supervisor.worker.limits import Alarm, KernelEnd, Limit, LimitPolicy, RunTimer, interruptible


def pool(**options: Any) -> PoolConfig:
    return PoolConfig("email", "email", "m:f", timeout_s=30.0, soft_timeout_s=24.0, timeout_header="x-limit", **options)


POOLS = Limit(30.0, 24.0, LimitSource.POOL)

HEADERS = [
    ({}, POOLS),
    ({"x-limit": 10}, Limit(10.0, 8.0, LimitSource.MESSAGE)),
    ({"x-limit": 2.5}, Limit(2.5, 2.0, LimitSource.MESSAGE)),
    ({"x-limit": "10s"}, Limit(10.0, 8.0, LimitSource.MESSAGE)),
    ({"x-limit": "1m40s"}, Limit(100.0, 80.0, LimitSource.MESSAGE)),
    ({"x-limit": " 2.5 "}, Limit(2.5, 2.0, LimitSource.MESSAGE)),
    ({"x-limit": "1h"}, Limit(300.0, 240.0, LimitSource.MESSAGE)),
    ({"x-limit": None}, POOLS),
    ({"x-limit": "soon"}, POOLS),
    ({"x-limit": 0}, POOLS),
    ({"x-limit": -5}, POOLS),
    ({"x-limit": float("nan")}, POOLS),
    ({"x-limit": [10]}, POOLS),
    ({"x-limit": True}, POOLS),
    ({"x-limit": "1.2.3"}, POOLS),
    ({"x-other": 10}, POOLS),
]


@pytest.mark.parametrize(("headers", "limit"), HEADERS)
def test_a_messages_own_limit_is_read_capped_or_ignored(headers: dict[str, Any], limit: Limit) -> None:
    assert LimitPolicy(pool()).limit_for(headers) == limit


def test_without_a_header_configured_messages_have_no_say() -> None:
    silent = PoolConfig("email", "email", "m:f", timeout_s=30.0)
    assert LimitPolicy(silent).limit_for({"": 1, "x-limit": 1}) == Limit(30.0, 0.0, LimitSource.POOL)


def test_a_limit_that_is_ignored_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    LimitPolicy(pool()).limit_for({"x-limit": "soon"})
    assert "header x-limit = 'soon' is ignored: not a duration" in caplog.text


# ---- one run's timer ----------------------------------------------------------------------------------------------


def timer(limit: Limit, started_s: float = 1000.0, moved: list[RunTimer] | None = None) -> RunTimer:
    return RunTimer(limit, started_s, 60.0, (moved if moved is not None else []).append)


def test_the_soft_limit_comes_first_and_once() -> None:
    run = timer(POOLS)
    assert run.next_due_s == 1024.0
    assert not run.soft_is_due(1023.9)
    assert run.soft_is_due(1024.0)
    assert str(run.spend_soft()) == "the soft limit of 24 s is over"
    assert not run.soft_is_due(1029.0)
    assert run.next_due_s == run.deadline_s == 1030.0


def test_without_a_soft_limit_only_the_hard_one_is_due() -> None:
    run = timer(Limit(30.0, 0.0, LimitSource.POOL))
    assert run.next_due_s == 1030.0
    assert not run.soft_is_due(1029.0)


def test_extend_moves_both_limits_and_revives_the_soft_one() -> None:
    moved: list[RunTimer] = []
    run = timer(POOLS, monotonic_s(), moved)
    run.spend_soft()
    run.extend(20.0)
    assert moved == [run]
    assert run.remaining_s() == pytest.approx(50.0, abs=1.0)
    assert run.deadline_s - run.next_due_s == pytest.approx(6.0)


def test_extend_reaches_the_maximum_exactly_and_not_beyond() -> None:
    run = timer(POOLS)
    run.extend(30.0)
    assert run.deadline_s == 1060.0
    with pytest.raises(ValueError, match=r"60 s at most \(max_timeout\), so this one may ask for 0 s more"):
        run.extend(0.001)
    assert run.deadline_s == 1060.0


def test_a_run_that_is_over_cannot_be_extended() -> None:
    moved: list[RunTimer] = []
    run = timer(POOLS, moved=moved)
    run.end()
    with pytest.raises(ValueError, match="the run of this message is over"):
        run.extend(1.0)
    assert moved == []


# ---- the timer ----------------------------------------------------------------------------------------------------


pytestmark = pytest.mark.timeout(method="thread")  # SIGALRM is what is tested here


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    before = signal.getsignal(signal.SIGALRM)
    end = KernelEnd(0.0, KillTimer(), mark=lambda at_s: None)
    yield Alarm(own_frame.__code__, 60.0, lambda: sys.exit("overdue"), lambda deadline_s: None, end)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def run_with(alarm: Alarm, soft_s: float) -> float:
    """A run begins and ends at once; for how long the timer was set in it."""
    alarm.begin(Limit(30.0, soft_s, LimitSource.POOL), monotonic_s(), boottime_s())
    left_s, interval_s = signal.getitimer(signal.ITIMER_REAL)
    assert interval_s == 0
    alarm.end()
    return left_s


def test_the_timer_of_the_run_before_serves_if_it_rings_early_but_not_by_much(alarm: Alarm) -> None:
    assert 23 < run_with(alarm, 24.0) <= 24
    signal.setitimer(signal.ITIMER_REAL, 13.0)
    assert 12 < run_with(alarm, 24.0) <= 13, "kept: half of the limit is not over"
    signal.setitimer(signal.ITIMER_REAL, 11.0)
    assert 23 < run_with(alarm, 24.0) <= 24, "set again: it would fire for nothing in every longer run"


def test_a_timer_that_would_fire_late_is_set_again(alarm: Alarm) -> None:
    run_with(alarm, 24.0)
    assert 4 < run_with(alarm, 5.0) <= 5


def test_a_timer_that_a_handler_took_for_itself_is_set_again(alarm: Alarm) -> None:
    run_with(alarm, 24.0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert 23 < run_with(alarm, 24.0) <= 24
    signal.setitimer(signal.ITIMER_REAL, 20.0, 20.0)
    assert 23 < run_with(alarm, 24.0) <= 24


def test_at_rest_no_timer_is_set(alarm: Alarm) -> None:
    run_with(alarm, 24.0)
    alarm.rest()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


# ---- the end that the kernel holds --------------------------------------------------------------------------------


class Recorder(KillTimer):
    """Writes down what a timer is set to, and what the slot says, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = True
        self.timer_s = self.mark_s = 0.0

    def set(self, at_s: float) -> None:
        self.timer_s = at_s
        self.check()

    def mark(self, at_s: float) -> None:
        self.mark_s = at_s
        self.check()

    def check(self) -> None:
        assert not self.timer_s or 0 < self.mark_s <= self.timer_s, "when the timer kills, the mark is due"


def test_at_each_moment_the_mark_is_due_when_the_timer_kills() -> None:
    recorder = Recorder()
    end = KernelEnd(5.0, recorder, recorder.mark)
    for limit_s in (100.0, 200.0, 150.0, 150.0, 0.0, 0.0, 300.0, 0.0):
        end.hold(limit_s)
        assert recorder.timer_s == recorder.mark_s == (limit_s + 5.0 if limit_s else 0.0)


def test_the_timer_of_the_run_before_serves_if_it_is_little_early_and_never_if_it_is_late() -> None:
    recorder = Recorder()
    end = KernelEnd(5.0, recorder, recorder.mark)
    ends = []
    for limit_s in (100.0, 100.2, 100.5, 100.7, 100.6):
        end.hold(limit_s)
        ends.append(recorder.timer_s)
    assert ends == [105.0, 105.0, 105.0, pytest.approx(105.7), pytest.approx(105.6)]


def test_the_end_is_counted_from_before_the_run_was_marked_and_follows_extensions() -> None:
    recorder = Recorder()
    end = KernelEnd(5.0, recorder, recorder.mark)
    alarm = Alarm(own_frame.__code__, 60.0, lambda: sys.exit("overdue"), lambda deadline_s: None, end)
    run = alarm.begin(Limit(30.0, 0.0, LimitSource.POOL), monotonic_s(), began_s=1000.0)
    assert recorder.timer_s == 1035.0
    run.extend(10.0)
    assert recorder.timer_s == 1045.0
    alarm.end()
    assert recorder.timer_s == 1045.0, "the next run replaces it"
    alarm.begin(Limit(3.0, 0.0, LimitSource.POOL), monotonic_s(), began_s=1010.0)
    assert recorder.timer_s == 1018.0
    alarm.end()
    alarm.rest()
    assert recorder.timer_s == recorder.mark_s == 0.0


# ---- the frames of a handler --------------------------------------------------------------------------------------


def dividing_call(function: Any) -> FrameType:
    """Stands for the frame between worker and handler."""
    frame: FrameType = function()
    return frame


def own_frame() -> FrameType:
    return sys._getframe()


def frame_in_a_callee() -> FrameType:
    return own_frame()


def the_dividing_frame() -> FrameType:
    frame = sys._getframe().f_back
    assert frame is not None
    return frame


def in_module(name: str, function: Any) -> Any:
    """The same function as if it were defined in another module."""
    return FunctionType(function.__code__, {**function.__globals__, "__name__": name})


class Finalized:
    def __del__(self) -> FrameType:
        return sys._getframe()


FRAMES = {
    "the handler itself": (own_frame, True),
    "what the handler calls": (frame_in_a_callee, True),
    "the call before or after the handler": (the_dividing_frame, False),
    "the API": (in_module("supervisor.api", own_frame), False),
    "what the API calls": (in_module("supervisor.worker.limits", frame_in_a_callee), False),
    "a user's module with a similar name": (in_module("supervisor_of_mine", own_frame), True),
    "a finalizer": (lambda: Finalized().__del__(), False),
}


@pytest.mark.parametrize("where", FRAMES)
def test_only_the_handlers_own_frames_may_be_interrupted(where: str) -> None:
    function, allowed = FRAMES[where]
    assert interruptible(dividing_call(function), dividing_call.__code__) is allowed


def test_outside_of_any_handler_nothing_may_be_interrupted() -> None:
    assert not interruptible(own_frame(), dividing_call.__code__)
    assert not interruptible(None, dividing_call.__code__)
