"""The audit finds every way in which a history can be wrong; each is forged here once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.drill.audit import Evidence, audit
from supervisor.drill.plan import InnerFault, OuterFault


def effect(id: str, attempt: int = 1, round: int = 1) -> dict[str, Any]:
    return {"id": id, "round": round, "attempt": attempt, "pid": 1}


def exit_of(id: str, attempt: int = 1, **facts: Any) -> dict[str, Any]:
    record = {"message_id": id, "attempt": attempt, "run": "in_doubt", "pid": 9, "cause": "crash"}
    return record | {"status": None, "signal": None} | facts


def failure_of(id: str, attempt: int = 1) -> dict[str, Any]:
    return {"event": "message.failed", "message_id": id, "attempt": attempt}


def evidence(**changes: Any) -> Evidence:
    calm = Evidence(["a", "b"], [effect("a"), effect("b")], [], [], [], [], [], [])
    return msgspec.structs.replace(calm, **changes)


def test_a_calm_history_passes() -> None:
    report = audit(evidence())

    assert report.passed
    assert report.line == "audit: sent=2 effects=2 lost=0 duplicated=0 declared=0 parked=0 dead=0"


def test_a_message_without_effect_is_lost() -> None:
    report = audit(evidence(effects=[effect("a")]))

    assert (report.lost, report.passed) == (["b"], False)


@pytest.mark.parametrize("place", ["dead", "parked"])
def test_a_message_set_aside_is_not_lost(place: str) -> None:
    report = audit(evidence(effects=[effect("a")], **{place: ["b"]}))

    assert report.passed
    assert f"{place}=1" in report.line


def test_a_second_effect_that_nothing_declares_is_duplicated() -> None:
    report = audit(evidence(effects=[effect("a"), effect("a", attempt=2), effect("b")]))

    assert (report.duplicated, report.declared, report.passed) == (["a"], 0, False)


def test_the_same_attempt_twice_is_duplicated_whatever_the_records_say() -> None:
    report = audit(evidence(effects=[effect("a"), effect("a"), effect("b")], exits=[exit_of("a")]))

    assert report.duplicated == ["a"]


def test_a_second_effect_is_declared_by_the_exit_record_of_the_first_run() -> None:
    report = audit(evidence(effects=[effect("a"), effect("a", attempt=2), effect("b")], exits=[exit_of("a")]))

    assert (report.duplicated, report.declared, report.passed) == ([], 1, True)


def test_a_second_effect_is_declared_by_a_failure_record() -> None:
    report = audit(evidence(effects=[effect("a"), effect("a", attempt=2), effect("b")], log=[failure_of("a")]))

    assert report.declared == 1


def test_an_exit_between_messages_declares_nothing() -> None:
    idle = exit_of("a", run="idle")

    report = audit(evidence(effects=[effect("a"), effect("a", attempt=2), effect("b")], exits=[idle]))

    assert report.duplicated == ["a"]


def test_every_attempt_between_two_effects_must_be_declared() -> None:
    effects = [effect("a"), effect("a", attempt=3), effect("b")]

    assert audit(evidence(effects=effects, exits=[exit_of("a", 1)])).duplicated == ["a"]
    assert audit(evidence(effects=effects, exits=[exit_of("a", 1), exit_of("a", 2)])).declared == 1


def test_a_run_of_an_earlier_attempt_after_a_later_one_is_duplicated() -> None:
    effects = [effect("a", attempt=2), effect("a", attempt=1), effect("a", attempt=1), effect("b")]

    assert audit(evidence(effects=effects, exits=[exit_of("a", 1)])).duplicated == ["a"]


@pytest.mark.parametrize(
    ("fault", "record"),
    [
        (InnerFault.SEGFAULT, exit_of("a", signal="SIGSEGV")),
        (InnerFault.ABORT, exit_of("a", signal="SIGABRT")),
        (InnerFault.EXIT_ZERO, exit_of("a", cause="unexpected_exit", status=0)),
        (InnerFault.EXIT_THREE, exit_of("a", status=3)),
        (InnerFault.HANG, exit_of("a", cause="timeout", status=124)),
        (InnerFault.MEMORY, exit_of("a", cause="memory_limit", signal="SIGKILL")),
    ],
)
def test_a_fault_must_be_found_under_its_own_cause(fault: InnerFault, record: dict[str, Any]) -> None:
    announced = [{"id": "a", "fault": fault, "pid": 9}]

    assert audit(evidence(announced=announced, exits=[record])).passed
    assert audit(evidence(announced=announced, exits=[record | {"cause": "killed"}])).unexplained
    assert audit(evidence(announced=announced, exits=[record | {"message_id": "b"}])).unexplained
    assert audit(evidence(announced=announced)).unexplained


def test_a_fault_forestalled_by_a_kill_from_outside_is_on_record_as_killed() -> None:
    announced = [{"id": "a", "fault": InnerFault.ABORT, "pid": 9}]
    killed = exit_of("a", cause="killed", signal="SIGKILL")

    assert audit(evidence(announced=announced, struck=[(OuterFault.KILL_WORKER, 9)], exits=[killed])).passed
    assert audit(evidence(announced=announced, exits=[killed])).unexplained, "no fault struck it"


def test_a_fault_forestalled_by_the_masters_death_is_on_record_as_lost() -> None:
    announced = [{"id": "a", "fault": InnerFault.ABORT, "pid": 9}]
    lost = exit_of("a", cause="lost")

    assert audit(evidence(announced=announced, struck=[(OuterFault.KILL_MASTER, 1)], exits=[lost])).passed
    assert audit(evidence(announced=announced, exits=[lost])).unexplained, "the master lived and must know better"
    other = lost | {"pid": 8}
    assert audit(evidence(announced=announced, struck=[(OuterFault.KILL_MASTER, 1)], exits=[other])).unexplained


def test_an_exception_must_be_found_as_a_failure() -> None:
    announced = [{"id": "a", "fault": InnerFault.EXCEPTION, "pid": 9}]

    assert audit(evidence(announced=announced, log=[failure_of("a")])).passed
    assert audit(evidence(announced=announced, log=[failure_of("b")])).unexplained


def test_a_process_killed_from_outside_must_be_on_record_as_killed() -> None:
    struck = [(OuterFault.KILL_WORKER, 9)]

    assert audit(evidence(struck=struck, exits=[exit_of("", cause="killed", run="idle")])).passed
    assert audit(evidence(struck=struck, exits=[exit_of("", cause="crash", run="idle")])).unexplained


def test_a_kill_that_comes_too_late_finds_its_process_ended_by_a_fault_of_its_own() -> None:
    announced = [{"id": "a", "fault": InnerFault.ABORT, "pid": 9}]
    struck, aborted = [(OuterFault.KILL_WORKER, 9)], exit_of("a", signal="SIGABRT")

    assert audit(evidence(announced=announced, struck=struck, exits=[aborted])).passed
    other = [aborted, exit_of("b", signal="SIGSEGV", pid=7)]
    assert audit(evidence(announced=announced, struck=[(OuterFault.KILL_WORKER, 7)], exits=other)).unexplained


def test_a_killed_master_leaves_children_that_are_recorded_as_lost() -> None:
    struck = [(OuterFault.KILL_MASTER, 1)]

    assert audit(evidence(struck=struck, exits=[exit_of("", cause="lost", run="idle")])).passed
    assert audit(evidence(struck=struck)).unexplained


def test_every_cut_must_have_been_noticed() -> None:
    struck = [(OuterFault.CUT_CONNECTION, 0)] * 2
    noticed = {"event": "consumer.disconnected"}

    assert audit(evidence(struck=struck, log=[noticed, noticed])).passed
    assert audit(evidence(struck=struck, log=[noticed])).unexplained


@pytest.mark.parametrize("fault", [fault for fault in InnerFault if fault is not InnerFault.HANG])
@pytest.mark.parametrize("cause", ["timeout", "out_of_memory"])
def test_a_fault_that_a_limit_came_before_is_on_record_and_no_broken_promise(fault: InnerFault, cause: str) -> None:
    announced = [{"id": "a", "fault": fault, "pid": 7}]
    ended = {**exit_of("a"), "pid": 7, "cause": cause, "signal": "SIGKILL", "status": None}
    assert audit(evidence(announced=announced, exits=[ended])).unexplained == []
    of_another = {**ended, "pid": 8}
    assert audit(evidence(announced=announced, exits=[of_another])).unexplained != []


@pytest.mark.parametrize("fault", [OuterFault.KILL_WORKER, OuterFault.KILL_CONSUMER, OuterFault.KILL_FORKSERVER])
def test_a_kill_of_a_process_that_a_limit_had_ended_is_on_record(fault: OuterFault) -> None:
    ended = {**exit_of("a"), "pid": 7, "cause": "timeout"}
    assert audit(evidence(struck=[(fault, 7)], exits=[ended])).unexplained == []
    assert audit(evidence(struck=[(fault, 7)], exits=[{**ended, "cause": "clean_stop"}])).unexplained != []
