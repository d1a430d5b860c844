"""A worker and its messages: what the handler sees, how each way to end becomes an outcome, what publishes do."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

import pytest

from supervisor.link.frames import Outcome, Publish, Published, Recall, Returned, RunId
from supervisor.messages.message import Properties
from supervisor.scoreboard.words import OutcomeKind
from supervisor.system.clock import boottime_s
from supervisor.system.stacks import REASON_BYTES, STACK_BYTES
from tests.support.pools import MakeMaster, run_frame
from tests.support.waiting import eventually

ENDINGS: dict[str, tuple[dict[str, Any], OutcomeKind, float | None, str]] = {
    "done": ({}, OutcomeKind.DONE, None, ""),
    "fail": ({"why": "no such user"}, OutcomeKind.FAILED, None, "ValueError: no such user"),
    "retry": ({"delay": 2.5, "why": "busy"}, OutcomeKind.RETRY, 2.5, "busy"),
    "reject": ({"why": "no address"}, OutcomeKind.REJECT, None, "no address"),
    "coroutine": ({}, OutcomeKind.FAILED, None, "the handler returned a coroutine that is never awaited"),
    "extend_too_far": ({}, OutcomeKind.FAILED, None, "ValueError: extend(1e+06): a run may last 300 s at most"),
}


def test_every_way_a_handler_ends_is_an_outcome_in_the_ring_and_in_a_frame(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    for number, (do, (order, kind, delay_s, reason)) in enumerate(ENDINGS.items()):
        outcome = link.outcome_of(run_frame(number, do, **order))
        assert (outcome.kind, outcome.delay_s, outcome.cell) == (kind, delay_s, number)
        assert outcome.reason.startswith(reason)
        assert outcome.elapsed_s > 0
    cells = master.slot().cells(0)
    assert [cell.kind for cell in cells] == [kind for _, kind, _, _ in ENDINGS.values()]
    assert cells[2].delay_s == 2.5
    assert "no such user" in cells[1].text
    assert "this must not run" not in master.noted()


def test_a_failure_carries_the_handlers_stack_and_not_the_workers(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    stack = link.outcome_of(run_frame(1, "fail")).stack
    assert "sample_handlers.py" in stack
    assert "ValueError: no such user" in stack
    assert "supervisor/worker" not in stack


def test_an_endless_text_that_is_no_unicode_is_cut_and_escaped(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    outcome = link.outcome_of(run_frame(1, "bad_text"))
    assert "\\udc80 and \N{SNOWMAN}" in outcome.reason
    assert len(outcome.reason.encode()) <= REASON_BYTES
    assert len(outcome.stack.encode()) <= STACK_BYTES


def test_a_handler_sees_its_message_and_a_clean_process(make_master: MakeMaster) -> None:
    master = make_master(timeout_s=30.0)
    master.boot()
    master.worker(slot=2)
    pid, link = master.worker(slot=3)
    properties = Properties(headers={"a": 1}, type="greeting", message_id="m1")
    facts = {
        "properties": properties,
        "run": RunId(b"k" * 24, 2, 3),
        "exchange": "mail",
        "routing_key": "mail.out",
        "redelivered": True,
        "maybe_duplicate": True,
    }
    link.outcome_of(run_frame(1, "facts", facts=facts))
    seen = json.loads(master.note("{"))
    assert (seen["id"], seen["headers"], seen["type"]) == ("m1", {"a": 1}, "greeting")
    assert (seen["queue"], seen["exchange"], seen["routing_key"]) == ("sample", "mail", "mail.out")
    assert (seen["round"], seen["attempt"]) == (2, 3)
    assert seen["redelivered"] and seen["maybe_duplicate"]
    assert 25 < seen["remaining_s"] <= 30
    assert (seen["pid"], seen["pgid"], seen["ppid"]) == (pid, pid, os.getpid())
    assert seen["cmdline"] == "preforkd: worker sample/3"
    assert seen["stdin"] == "/dev/null"
    sockets = [target for target in seen["descriptors"] if target.startswith("socket:")]
    assert len(sockets) == 1, "only the link: nothing of the forkserver's is inherited"
    assert seen["oom_score_adj"] >= 500


def test_while_a_run_lasts_its_slot_says_what_runs_until_when(make_master: MakeMaster) -> None:
    master = make_master(timeout_s=20.0)
    master.boot()
    _, link = master.worker()
    gate = master.gate()
    run = run_frame(7, "wait", gate=str(gate))
    link.run(run)
    master.note("waiting m7")
    running = master.slot().running()
    assert running is not None
    assert (running.run, running.message_id) == (run.run, "m7")
    assert running.deadline_s - running.started_s == pytest.approx(20.0)
    assert abs(datetime.now(UTC).timestamp() - running.started_at_s) < 20
    master.open_gate(gate)
    link.expect(Outcome)
    assert master.slot().running() is None


def test_messages_sent_ahead_run_in_order(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    runs = [run_frame(number, "done") for number in range(40)]
    link.run(*runs)
    assert [link.expect(Outcome).run for _ in runs] == [run.run for run in runs]
    assert master.noted() == [f"done m{number}" for number in range(40)]


def test_a_recall_returns_all_that_was_not_started_before_the_next_start(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    gate = master.gate()
    first, *ahead = run_frame(0, "wait", gate=str(gate)), run_frame(1, "done"), run_frame(2, "done")
    link.run(first, *ahead)
    master.note("waiting m0")
    link.send(Recall())
    master.open_gate(gate)
    assert link.expect(Outcome).run == first.run
    assert link.expect(Returned).runs == [run.run for run in ahead]
    assert link.outcome_of(run_frame(3, "done")).kind == OutcomeKind.DONE
    assert master.noted() == ["waiting m0", "done m3"]


def test_a_message_whose_time_is_over_when_its_turn_comes_is_returned_and_not_run(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    gate = master.gate()
    first = run_frame(0, "wait", gate=str(gate))
    over, in_time = (
        run_frame(at, "done", facts={"due_s": boottime_s() + left_s}) for at, left_s in ((1, 0.0), (2, 900))
    )
    link.run(first, over, in_time)
    master.note("waiting m0")
    master.open_gate(gate)
    assert link.expect(Outcome).run == first.run
    assert link.expect(Returned).runs == [over.run]
    assert link.expect(Outcome).run == in_time.run
    assert master.noted() == ["waiting m0", "done m2"]


def test_a_recall_of_nothing_is_answered_with_nothing(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    link.send(Recall())
    assert link.expect(Returned).runs == []


def test_a_run_with_publishes_is_done_only_when_they_are_confirmed(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    run = run_frame(1, "publish")
    link.run(run, run_frame(2, "done"))
    publish = link.expect(Publish)
    assert [(one.routing_key, one.body) for one in publish.publications] == [("audit", b"copy 0"), ("audit", b"copy 1")]
    assert publish.publications[1].properties.headers == {"n": 1}
    running = master.slot().running()
    assert running is not None and running.publishing and running.deadline_s == 0
    link.send(Published(run.run, ok=True, reason=""))
    assert link.expect(Outcome).kind == OutcomeKind.DONE
    assert link.expect(Outcome).run == run_frame(2, "done").run


def test_a_run_whose_publishes_come_back_has_failed(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    run = run_frame(1, "publish")
    link.run(run)
    link.expect(Publish)
    link.send(Published(run.run, ok=False, reason="no queue is bound"))
    outcome = link.expect(Outcome)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.PUBLISH_FAILED, "publish failed: no queue is bound")


def test_publishes_of_a_handler_that_fails_are_dropped(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    assert link.outcome_of(run_frame(1, "publish", then="fail")).kind == OutcomeKind.FAILED


def test_nothing_starts_while_the_ring_is_full(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    runs = [run_frame(number, "nothing") for number in range(65)]
    link.run(*runs)
    for run in runs[:64]:
        assert link.expect(Outcome).run == run.run
    assert master.slot().running() is None
    assert not link.poll()
    master.slot().advance_tail(1)
    assert link.expect(Outcome).cell == 64


def test_what_a_handler_prints_is_not_lost_with_its_worker(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    pid, link = master.worker()
    link.outcome_of(run_frame(1, "print", text="hello from the handler"))
    eventually(lambda: "hello from the handler" in master.errors.read_text(), "the line is out")
    link.run(run_frame(2, "os_exit", **{"with": 9}))
    assert master.status(pid) == 9
    assert master.errors.read_text().count("hello from the handler") == 1
