"""The history checker finds every way in which a history can be wrong; each is forged here once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.history import History, Note, Step, charges, faults
from tests.support.history import runs as runs_of

T0_S = 1_000_000.0
"""Wall clock and monotonic clock agree here, which makes forging easier."""


def note(step: Step, id: str, at_s: float, attempt: int = 1, pid: int = 10) -> Note:
    return Note(step, id, 1, attempt, pid, at_s, T0_S + at_s)


def run(id: str, start_s: float, attempt: int = 1, pid: int = 10, effect: bool = True) -> list[Note]:
    """A run of one second from its start to its end."""
    middle = [note(Step.EFFECT, id, start_s + 0.5, attempt, pid)] if effect else []
    return [note(Step.START, id, start_s, attempt, pid), *middle, note(Step.END, id, start_s + 1, attempt, pid)]


def cut_off(id: str, start_s: float, attempt: int = 1, pid: int = 10) -> list[Note]:
    """A run that its process's death has ended."""
    return [note(Step.START, id, start_s, attempt, pid)]


def exit_of(pid: int, at_s: float, generation: int = 1, **facts: Any) -> dict[str, Any]:
    at = f"1970-01-12T13:46:{40 + at_s:06.3f}Z"  # T0_S
    record = {"at": at, "pool": "email", "pid": pid, "generation": generation, "cause": "crash"}
    return record | {"message_id": "", "attempt": None, "run": "idle"} | facts


def failure_of(id: str, attempt: int = 1) -> dict[str, Any]:
    return {"event": "message.failed", "message_id": id, "attempt": attempt, "pid": 1}


def history(**changes: Any) -> History:
    """One message, done by process 10, which is on record as gone."""
    calm = History(sent={"a": "done"}, notes=run("a", 0.0), exits=[exit_of(10, 9.0)], log=[])
    return msgspec.structs.replace(calm, **changes)


def test_a_calm_history_has_no_faults() -> None:
    assert faults(history(rows={"a": ["done"]})) == []


def test_a_failed_and_declared_run_followed_by_another_is_no_fault() -> None:
    notes = [*run("a", 0.0, effect=False), *run("a", 2.0, attempt=2)]

    assert faults(history(notes=notes, log=[failure_of("a")])) == []


def test_a_run_cut_off_by_a_recorded_death_and_followed_by_another_is_no_fault() -> None:
    notes = [*cut_off("a", 0.0, pid=9), *run("a", 2.0, attempt=2)]
    exits = [exit_of(9, 1.0, message_id="a", attempt=1, run="in_doubt"), exit_of(10, 9.0, generation=2)]

    assert faults(history(notes=notes, exits=exits)) == []


# ---- messages -----------------------------------------------------------------------------------------------------


def test_a_message_without_effect_is_lost() -> None:
    assert faults(history(notes=run("a", 0.0, effect=False))) == ["a is lost"]


@pytest.mark.parametrize("place", ["dead", "parked"])
def test_a_message_set_aside_is_not_lost(place: str) -> None:
    assert faults(history(notes=run("a", 0.0, effect=False), **{place: ["a"]})) == []


def test_a_second_effect_that_nothing_declares_is_a_fault_twice_over() -> None:
    found = faults(history(notes=[*run("a", 0.0), *run("a", 2.0, attempt=2)]))

    assert found == [
        "a has a second effect, and no record declares it",
        "a was run again, and no record declares it",
    ]


def test_a_re_run_is_a_fault_also_when_the_first_run_had_no_effect() -> None:
    found = faults(history(notes=[*run("a", 0.0, effect=False), *run("a", 2.0, attempt=2)]))

    assert found == ["a was run again, and no record declares it"]


def test_the_same_attempt_twice_is_a_fault_whatever_is_declared() -> None:
    found = faults(history(notes=[*run("a", 0.0, effect=False), *run("a", 2.0)], log=[failure_of("a")]))

    assert found == ["a was run again, and no record declares it"]


def test_a_record_of_another_attempt_declares_nothing() -> None:
    notes = [*run("a", 0.0, effect=False), *run("a", 2.0, attempt=2)]

    assert faults(history(notes=notes, log=[failure_of("a", attempt=2)])) != []


def test_publishes_that_never_came_out_are_a_fault() -> None:
    published = history(sent={"a": "publish"}, published=["a"])

    assert faults(published) == []
    assert faults(msgspec.structs.replace(published, published=[])) == ["a is done, and what it published is nowhere"]


@pytest.mark.parametrize(
    ("deed", "states"), [("done", []), ("done", ["dispatched"]), ("done", ["done", "done"]), ("reject", ["done"])]
)
def test_the_ledger_must_say_of_each_message_what_became_of_it_once(deed: str, states: list[str]) -> None:
    (found,) = faults(history(sent={"a": deed}, rows={"a": states}))

    assert found.startswith("a: the ledger says")


def test_a_ledger_that_may_not_be_read_is_no_fault() -> None:
    assert faults(history(rows=None)) == []


# ---- at the same time ---------------------------------------------------------------------------------------------


def test_a_run_that_begins_within_another_of_its_message_overlaps() -> None:
    notes = [*run("a", 0.0, effect=False), *run("a", 0.9, attempt=2, pid=11)]

    found = faults(history(notes=notes, log=[failure_of("a")], exits=[exit_of(10, 9.0), exit_of(11, 9.0, 2)]))

    assert found == ["a: attempt 2 began while attempt 1 was running"]


def test_runs_of_different_messages_never_overlap() -> None:
    notes = [*run("a", 0.0), *run("b", 0.5)]

    assert faults(history(sent={"a": "done", "b": "done"}, notes=notes)) == []


@pytest.mark.parametrize("exits", [[], [exit_of(9, 3.0, message_id="a", attempt=1, run="in_doubt")]])
def test_a_run_that_begins_before_the_death_of_the_former_one_is_on_record_is_a_fault(exits: list[Any]) -> None:
    notes = [*cut_off("a", 0.0, pid=9), *run("a", 2.0, attempt=2)]

    found = faults(history(notes=notes, exits=[*exits, exit_of(10, 9.0, generation=2)]))

    assert "a: attempt 2 began while attempt 1 of pid 9 was not known to be over" in found


# ---- exits --------------------------------------------------------------------------------------------------------


READY = {"event": "worker.ready", "pid": 20, "pool": "email", "generation": 2}


@pytest.mark.parametrize("line", [READY, READY | {"event": "forkserver.ready"}])
def test_a_child_that_is_gone_without_a_record_of_its_generation_is_a_fault(line: dict[str, Any]) -> None:
    assert faults(history(log=[line], exits=[exit_of(10, 9.0), exit_of(20, 9.0, generation=3)])) == [
        "pid 20 is gone, and generation 2 has no exit record"
    ]
    assert faults(history(log=[line], living=[20])) == []
    assert faults(history(log=[line], exits=[exit_of(10, 9.0), exit_of(20, 9.0, generation=2)])) == []


def test_a_consumer_that_is_gone_without_a_record_is_a_fault() -> None:
    log = [{"event": "consumer.ready", "pid": 20}]

    assert faults(history(log=log)) == ["pid 20 is gone and has no exit record"]
    assert faults(history(log=log, living=[20])) == []


def test_other_log_lines_name_no_children() -> None:
    assert faults(history(log=[{"event": "daemon.ready", "pid": 20}])) == []


def test_a_process_that_ran_a_message_and_has_no_record_is_a_fault() -> None:
    assert faults(history(exits=[])) == ["pid 10 is gone and has no exit record"]


def test_two_records_of_one_life_are_a_fault() -> None:
    assert faults(history(exits=[exit_of(10, 9.0), exit_of(10, 9.5)])) == ["email 1 has 2 exit records"]


def test_two_lives_with_the_same_pid_are_none() -> None:
    assert faults(history(exits=[exit_of(10, 9.0), exit_of(10, 9.5, generation=2)])) == []


def test_a_record_of_a_process_that_lives_is_a_fault() -> None:
    exits = [exit_of(10, 9.0), exit_of(20, 9.0, generation=2)]

    assert faults(history(log=[READY], exits=exits, living=[20])) == ["pid 20 has an exit record and lives"]


def test_a_record_of_a_consumer_that_lives_is_a_fault_unless_it_is_older_than_its_life() -> None:
    record = exit_of(20, 9.0, generation=2)
    older, later = "1970-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z"
    former = READY | {"at": older}
    ready = {"event": "consumer.ready", "pid": 20, "at": later}
    exits = [exit_of(10, 9.0), record]

    assert faults(history(log=[former, ready], exits=exits, living=[20])) == []
    assert faults(history(log=[ready | {"at": older}], exits=exits, living=[20])) == [
        "pid 20 has an exit record and lives"
    ]


def test_a_living_process_whose_pid_was_another_ones_is_none() -> None:
    exits = [exit_of(10, 9.0), exit_of(20, 9.0, generation=1)]
    exits[0]["generation"] = 7

    assert faults(history(log=[READY], exits=exits, living=[20])) == []


# ---- runs ---------------------------------------------------------------------------------------------------------


def test_runs_are_told_apart_and_ordered_by_their_start() -> None:
    notes = [*run("a", 2.0, attempt=2), *cut_off("a", 0.0, pid=9)]

    first, second = runs_of(history(notes=notes))["a"]

    assert (first.started.attempt, first.ended) == (1, None)
    assert second.ended is not None
    assert second.ended.monotonic_s == 3.0


@pytest.mark.parametrize(("deed", "charged"), [("done", {"a": 1}), ("fail", {}), ("crash", {}), ("reject", {"a": 1})])
def test_an_attempt_is_charged_when_the_message_does_not_order_it(deed: str, charged: dict[str, int]) -> None:
    notes = [*run("a", 0.0, effect=False), *run("a", 2.0, attempt=2)]

    assert charges(history(sent={"a": deed}, notes=notes)) == charged


def test_an_attempt_that_was_never_begun_is_charged_as_well() -> None:
    assert charges(history(notes=run("a", 0.0, attempt=3))) == {"a": 2}


@pytest.mark.parametrize(
    ("committed", "parked", "found"),
    [
        (["a"], [], []),
        (["a"], ["a"], []),
        ([], ["a"], []),
        ([], [], ["a has 0 effects in the database of its inbox"]),
        (["a", "a"], [], ["a has 2 effects in the database of its inbox"]),
        (["a", "a"], ["a"], ["a has 2 effects in the database of its inbox"]),
    ],
)
def test_an_effect_with_an_inbox_is_in_its_database_once(
    committed: list[str], parked: list[str], found: list[str]
) -> None:
    assert faults(history(sent={"a": "once"}, committed=committed, parked=parked)) == found
