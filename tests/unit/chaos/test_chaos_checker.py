"""The checker of a chaos ride, against forged evidence: each violation is found and named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.chaos.plan import Fault, Order, Shape
from tests.support.chaos.ride import Evidence, all_exits, judge
from tests.support.history import Note, Step

RETRY, PARK = Shape(messages=2, strikes=1), Shape(messages=2, strikes=1, on_crash="park")
NAMED, BARE = Order("named-000000", False, False, 0.0), Order("bare-000001", True, False, 0.0)
PID, NEXT_PID = 100, 101


def a_run(order: Order, at_s: float, pid: int = PID, attempt: int = 1, **more: Any) -> list[Note]:
    """A whole run, a tenth of a second long."""
    return [
        Note(step, order.name, 1, attempt, pid, at_s + offset_s, at_s + offset_s, **more)
        for step, offset_s in ((Step.START, 0.0), (Step.EFFECT, 0.05), (Step.END, 0.1))
    ]


def an_exit(pid: int, run: str = "idle", message_id: str = "", attempt: int | None = None) -> dict[str, Any]:
    """An exit record, written 15 s after the beginning of time."""
    return {
        "at": "1970-01-01T00:00:15.000Z",
        "pool": "email",
        "kind": "worker",
        "pid": pid,
        "generation": pid,
        "cause": "killed",
        "run": run,
        "message_id": message_id,
        "attempt": attempt,
    }


GOOD = Evidence(
    shape=RETRY,
    struck=[],
    orders=[NAMED, BARE],
    notes=[*a_run(NAMED, 10.0), *a_run(BARE, 11.0)],
    exits=[an_exit(PID), an_exit(NEXT_PID)],
    log=[],
    parked=[],
    waiting=0,
)

CUT_OFF = msgspec.structs.replace(
    GOOD,
    struck=[Fault.KILL_WORKER],
    notes=[*a_run(NAMED, 10.0)[:2], *a_run(NAMED, 20.0, NEXT_PID, attempt=2), *a_run(BARE, 30.0, NEXT_PID)],
    exits=[an_exit(PID, "in_doubt", NAMED.name, 1), an_exit(NEXT_PID)],
)
"""A worker was killed after its effect, and the message ran again: declared, and explained."""


def changed(evidence: Evidence, **changes: Any) -> Evidence:
    return msgspec.structs.replace(evidence, **changes)


def test_nothing_is_wrong_with_a_good_ride() -> None:
    outcome = judge(GOOD)

    assert outcome.wrong == []
    assert (outcome.messages, outcome.lost, outcome.duplicated, outcome.declared, outcome.bare_again) == (2, 0, 0, 0, 0)


def test_a_declared_run_after_a_kill_is_counted_and_not_wrong() -> None:
    outcome = judge(CUT_OFF)

    assert outcome.wrong == []
    assert (outcome.duplicated, outcome.declared) == (0, 1)


def test_a_run_that_no_kill_explains_is_wrong() -> None:
    outcome = judge(changed(CUT_OFF, struck=[Fault.RESET]))

    assert "1 attempts too many" in " ".join(outcome.wrong)


def test_with_park_no_kill_explains_a_second_run() -> None:
    outcome = judge(changed(CUT_OFF, shape=PARK))

    assert "1 attempts too many" in " ".join(outcome.wrong)


@pytest.mark.parametrize("order", [NAMED, BARE])
def test_a_message_without_effect_is_lost(order: Order) -> None:
    outcome = judge(changed(GOOD, notes=[note for note in GOOD.notes if note.id != order.name]))

    assert outcome.lost == 1
    assert f"{order.name} is lost" in outcome.wrong


@pytest.mark.parametrize("order", [NAMED, BARE])
def test_a_parked_message_without_effect_is_not_lost(order: Order) -> None:
    crash = [an_exit(PID, "in_doubt", NAMED.name, 1), an_exit(NEXT_PID)] if order is NAMED else GOOD.exits
    notes = [note for note in GOOD.notes if note.id != order.name]
    outcome = judge(changed(GOOD, shape=PARK, parked=[order], notes=notes, exits=crash, struck=[Fault.KILL_WORKER]))

    assert (outcome.lost, outcome.parked, outcome.wrong) == (0, 1, [])


def test_a_second_effect_of_the_same_attempt_is_a_duplicate() -> None:
    outcome = judge(changed(GOOD, notes=[*GOOD.notes, *a_run(NAMED, 20.0, NEXT_PID)]))

    assert outcome.duplicated == 1
    assert f"{NAMED.name} has a second effect, and no record declares it" in outcome.wrong


def test_runs_of_one_message_at_the_same_time_are_found() -> None:
    notes = [*a_run(NAMED, 10.0), *a_run(NAMED, 10.05, NEXT_PID), *a_run(BARE, 11.0)]

    assert judge(changed(GOOD, notes=notes)).overlaps == 1


def test_a_message_without_id_may_run_again_when_it_is_told_so() -> None:
    outcome = judge(changed(GOOD, notes=[*GOOD.notes, *a_run(BARE, 20.0, NEXT_PID, maybe_duplicate=True)]))

    assert (outcome.bare_again, outcome.wrong) == (1, [])


def test_a_message_without_id_that_runs_again_as_if_it_were_new_is_wrong() -> None:
    outcome = judge(changed(GOOD, notes=[*GOOD.notes, *a_run(BARE, 20.0, NEXT_PID)]))

    assert outcome.wrong == [f"{BARE.name} ran again as if it were new"]


def test_messages_left_in_a_queue_are_wrong() -> None:
    assert judge(changed(GOOD, waiting=2)).wrong == ["2 messages are left in the queues"]


def test_with_park_a_message_whose_worker_died_must_be_parked() -> None:
    evidence = changed(CUT_OFF, shape=PARK, notes=[*a_run(NAMED, 10.0)[:2], *a_run(BARE, 30.0, NEXT_PID)])

    assert judge(evidence).wrong == [f"{NAMED.name} was running when its worker died, and is not parked"]
    assert judge(changed(evidence, parked=[NAMED])).wrong == []


def test_with_park_nothing_else_is_parked() -> None:
    wrong = judge(changed(GOOD, shape=PARK, parked=[NAMED])).wrong

    assert wrong == [f"{NAMED.name} is parked, and no worker died of it"]


def test_a_process_without_exit_record_is_wrong() -> None:
    wrong = judge(changed(GOOD, exits=[an_exit(NEXT_PID)])).wrong

    assert len(wrong) == 1
    assert f"pid {PID}" in wrong[0]


def test_a_record_that_waited_for_a_full_disk_is_taken_from_the_log_and_only_then() -> None:
    journal, logged = [an_exit(PID)], {"event": "worker.exited"} | an_exit(NEXT_PID)
    log = [logged, {"event": "worker.exited"} | an_exit(PID), {"event": "worker.ready", "pid": NEXT_PID}]

    assert all_exits(journal, log, disk_was_full=True) == [*journal, logged]
    assert all_exits(journal, log, disk_was_full=False) == journal
