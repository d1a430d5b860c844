"""The soft limit under libraries of greenlets; stand-ins for greenlet, gevent and eventlet, as user code loads them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn

import pytest

from supervisor.api import Message
from supervisor.scoreboard.words import LimitSource, OutcomeKind
from supervisor.system.clock import boottime_s, monotonic_s
from supervisor.system.kill_timer import KillTimer
from supervisor.worker.handler_call import Ending, call, run_handler
from supervisor.worker.limits import Alarm, KernelEnd, Limit, call_in_loop, keeps_soft_limit_out, waiting_main


class Greenlet:
    """A greenlet as the alarm sees it."""

    def __init__(self, parent: Greenlet | None = None) -> None:
        self.parent = parent
        self.gr_frame: FrameType | None = None

    def throw(self, error: BaseException) -> NoReturn:
        """Goes on there with this exception; the stand-in's stack is the only one, so it is raised here."""
        raise error


class Loop:
    """gevent's loop and hub: its greenlet runs now, the main one waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.main = Greenlet()
        self.current = Greenlet(Greenlet(self.main))
        self.called: list[tuple[Any, ...]] = []
        monkeypatch.setitem(sys.modules, "greenlet", SimpleNamespace(getcurrent=lambda: self.current))  # type: ignore[arg-type]
        hub = SimpleNamespace(loop=SimpleNamespace(run_callback_threadsafe=lambda *call: self.called.append(call)))
        monkeypatch.setitem(sys.modules, "gevent", SimpleNamespace(get_hub=lambda: hub))  # type: ignore[arg-type]

    def turn(self) -> None:
        """The loop's next turn."""
        called, self.called = self.called, []
        for function, *arguments in called:
            function(*arguments)


pytestmark = pytest.mark.timeout(method="thread")  # SIGALRM is what is tested here


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    def overdue() -> NoReturn:
        raise AssertionError("the hard limit")

    before = signal.getsignal(signal.SIGALRM)
    yield Alarm(call.__code__, 100.0, overdue, lambda deadline_s: None, KernelEnd(0.0, KillTimer(), lambda at_s: None))
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def run(alarm: Alarm, handler: Any, begun_s_ago: float = 10.0) -> Ending:
    """One run, whose soft limit of 5 s is over after that."""
    alarm.begin(Limit(60.0, 5.0, LimitSource.POOL), monotonic_s() - begun_s_ago, boottime_s())
    signal.setitimer(signal.ITIMER_REAL, 0)  # the test rings
    try:
        return run_handler(handler, Message(b""))
    finally:
        alarm.end()


def ring(alarm: Alarm) -> None:
    """SIGALRM, taken on the stack of the loop's greenlet: nothing of the handler is on it."""
    alarm._ring(signal.SIGALRM, None)
    signal.setitimer(signal.ITIMER_REAL, 0)


def test_a_handler_that_waits_in_the_loop_gets_the_soft_timeout_in_its_own_greenlet(alarm: Alarm, loop: Loop) -> None:
    def handler(message: Message) -> None:
        loop.main.gr_frame = sys._getframe()
        ring(alarm)
        ring(alarm)
        loop.turn()

    ending = run(alarm, handler)
    assert (ending.kind, ending.reason) == (OutcomeKind.SOFT_TIMEOUT, "the soft limit of 5 s is over")


def test_the_loop_throws_once_and_only_when_the_limit_is_over(alarm: Alarm, loop: Loop) -> None:
    thrown = []

    def handler(message: Message) -> None:
        loop.main.gr_frame = sys._getframe()
        ring(alarm)
        message_over = list(loop.called)
        for _ in message_over * 2:
            loop.called = list(message_over)
            try:
                loop.turn()
            except Exception as error:
                thrown.append(error)

    assert run(alarm, handler).kind is OutcomeKind.DONE
    assert len(thrown) == 1
    assert run(alarm, handler, begun_s_ago=0.0).kind is OutcomeKind.DONE
    assert len(thrown) == 1


def test_what_was_asked_of_the_loop_for_one_run_never_ends_the_next(alarm: Alarm, loop: Loop) -> None:
    def late(message: Message) -> None:
        ring(alarm)

    def next_one(message: Message) -> None:
        loop.main.gr_frame = sys._getframe()
        loop.turn()

    assert run(alarm, late).kind is OutcomeKind.DONE
    assert loop.called
    assert run(alarm, next_one).kind is OutcomeKind.DONE


def test_the_workers_own_code_is_not_interrupted_by_the_loop(alarm: Alarm, loop: Loop) -> None:
    def handler(message: Message) -> None:
        ring(alarm)
        loop.main.gr_frame = None  # it is not suspended in the handler
        loop.turn()

    assert run(alarm, handler).kind is OutcomeKind.DONE


def test_the_main_greenlet_is_found_from_any_depth(loop: Loop) -> None:
    assert waiting_main() is loop.main
    loop.current = loop.main
    assert waiting_main() is None


def test_without_greenlets_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("greenlet", "gevent", "eventlet.patcher"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert waiting_main() is None
    call_in_loop(print)
    assert keeps_soft_limit_out() == ""


@pytest.mark.parametrize("broken", [SimpleNamespace(), None, SimpleNamespace(get_hub=lambda: None)])
def test_a_gevent_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch, broken: Any) -> None:
    monkeypatch.setitem(sys.modules, "gevent", broken)
    call_in_loop(print)


@pytest.mark.parametrize(
    ("patched", "named"),
    [(lambda module: module == "time", "eventlet"), (lambda module: False, ""), (lambda: None, "eventlet")],
    ids=["patched", "loaded only", "another version"],
)
def test_eventlet_is_named_where_it_keeps_the_soft_limit_out(
    monkeypatch: pytest.MonkeyPatch, patched: Any, named: str
) -> None:
    monkeypatch.setitem(sys.modules, "eventlet.patcher", SimpleNamespace(is_monkey_patched=patched))  # type: ignore[arg-type]
    assert keeps_soft_limit_out() == named
