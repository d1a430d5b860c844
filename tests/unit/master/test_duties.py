"""The duties of a turn, each for itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.logs.events import Event
from supervisor.master.duties import EachPool, Failures, UntilStop
from supervisor.master.pool.children import Children
from supervisor.master.stop.stopping import DaemonStop
from supervisor.symptoms import Symptoms


def fail() -> None:
    raise OSError(24, "Too many open files")


class Recorded:
    """A duty that is due at 7 s and notes its turns."""

    does = "note its turns"
    due_s = 7.0

    def __init__(self) -> None:
        self.turns: list[float] = []

    def turn(self, now_s: float) -> None:
        self.turns.append(now_s)


def test_a_duty_that_fails_keeps_no_other_from_being_carried_out_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[int] = []
    failures = Failures()
    for number in range(3):
        failures.attempt("fail", fail)
        failures.attempt("do", lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == [0, 1, 2]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "could not fail: [Errno 24] Too many open files" in told[0]


def test_a_turn_lasts_a_moment_only_when_a_duty_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr("supervisor.master.duties.time.sleep", paused.append)
    failures = Failures()
    failures.pause()
    assert paused == []
    failures.attempt("fail", fail)
    failures.pause()
    failures.pause()
    assert len(paused) == 1


class Troubled:
    """A pool, as far as failed duties know it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.symptoms = Symptoms()


def test_the_pool_that_a_duty_fails_for_says_so_until_it_works_again() -> None:
    pools: list[Any] = [Troubled(name) for name in ("email", "other")]
    failing, worked = {"email"}, list[str]()

    def write(pool: Any, now_s: float) -> None:
        if pool.name in failing:
            fail()
        worked.append(pool.name)

    duty = EachPool("write to its children", pools, Failures(), write)
    duty.turn(1.0)
    assert worked == ["other"]
    assert [symptom.name for symptom in pools[0].symptoms.present] == [Event.DUTY_FAILED]
    assert pools[1].symptoms.present == []
    failing.clear()
    duty.turn(2.0)
    assert pools[0].symptoms.present == []


def test_a_pool_names_all_that_fails_for_it_until_each_of_them_works_again() -> None:
    pool: Any = Troubled("email")
    failing, failures = {"write", "read"}, Failures()

    def duty(does: str) -> EachPool:
        return EachPool(does, [pool], failures, lambda pool, now_s: fail() if does in failing else None)

    duties, told = [duty("write"), duty("read"), duty("wait")], list[list[str]]()
    for works in ("nothing", "write", "read"):
        failing.discard(works)
        for each in duties:
            each.turn(1.0)
        told.append([symptom.text for symptom in pool.symptoms.present])
    reason = "[Errno 24] Too many open files"
    write, read = (f"pool email: the master could not {does}: {reason}" for does in ("write", "read"))
    assert told == [[f"{write}; {read}; it is tried again"], [f"{read}; it is tried again"], []]


def test_a_duty_of_all_pools_is_due_with_the_first_of_them() -> None:
    pools: list[Any] = [SimpleNamespace(due_s=9.0), SimpleNamespace(due_s=3.0)]
    assert EachPool("write", pools, Failures(), lambda pool, now_s: None, lambda pool: pool.due_s).due_s == 3.0
    assert EachPool("write", [], Failures(), lambda pool, now_s: None, lambda pool: pool.due_s).due_s == float("inf")


def test_a_duty_that_ends_with_the_stop_is_neither_due_nor_carried_out_during_it() -> None:
    stop, recorded = DaemonStop({}, Children()), Recorded()
    duty = UntilStop(recorded, stop)
    duty.turn(1.0)
    assert (duty.does, duty.due_s, recorded.turns) == ("note its turns", 7.0, [1.0])
    stop.request("SIGTERM", 5.0, now=False)
    duty.turn(2.0)
    assert (duty.due_s, recorded.turns) == (float("inf"), [1.0])


def test_a_stop_without_children_is_gone_in_one_turn_and_reports_once_finished() -> None:
    stop = DaemonStop({}, Children())
    assert (stop.under_way, stop.gone, stop.due_s) == (False, False, float("inf"))
    stop.turn(1.0)
    stop.finish()
    stop.request("preforkd stop", 5.0, now=False)
    sent: list[bytes] = []
    stop.tell_report({"stopping": True}).attach(sent.append)
    stop.turn(1.0)
    assert (stop.gone, sent) == (True, [])
    stop.finish()
    assert len(sent) == 1
    assert b'"forced":false' in sent[0]
