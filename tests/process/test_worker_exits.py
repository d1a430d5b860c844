"""Every way a worker leaves by itself: its status, its leaving mark, and what its slot says of the run."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from supervisor.link.frames import Bye, Outcome, Recall, Returned, Run
from supervisor.master.stop import phases
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import LeavingReason, OutcomeKind
from tests.support.pools import Link, MakeMaster, Master, run_frame
from tests.support.waiting import eventually

LIMITS: dict[str, tuple[dict[str, Any], str, LeavingReason]] = {
    "messages": ({"max_messages": 1}, "done", LeavingReason.MESSAGES),
    "memory": ({"max_memory_bytes": 48 * 1024**2}, "grow", LeavingReason.MEMORY),
}
"""By limit: the pool's settings, what the first message does, and why the worker leaves then."""

PROGRAM_EXITS: dict[str, tuple[dict[str, Any], int]] = {
    "sys.exit(3)": ({"do": "exit", "with": 3}, 3),
    "sys.exit(0)": ({"do": "exit", "with": 0}, 0),
    "sys.exit()": ({"do": "exit", "with": None}, 0),
    "sys.exit(text)": ({"do": "exit", "with": "out of ideas"}, 1),
    "sys.exit(75)": ({"do": "exit", "with": 75}, 75),
    "os._exit(0)": ({"do": "os_exit", "with": 0}, 0),
    "os._exit(124)": ({"do": "os_exit", "with": 124}, 124),
    "exec": ({"do": "exec", "script": "exit 0"}, 0),
    "segfault": ({"do": "segfault"}, -signal.SIGSEGV),
}


def boot(master: Master) -> tuple[int, Link]:
    master.boot()
    return master.worker()


def run_of(order: dict[str, Any]) -> Run:
    return run_frame(1, **order)


def still_marked(slot: Slot) -> bool:
    running = slot.running()
    return running is not None and running.message_id == "m1"


def test_an_idle_worker_that_is_asked_leaves_at_once_with_0(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    os.kill(pid, signal.SIGTERM)
    assert link.expect(Returned).runs == []
    assert link.expect(Bye).reason == "stop"
    assert master.status(pid) == 0
    assert master.leaving() == LeavingReason.STOP


def test_a_busy_worker_that_is_asked_finishes_its_message_and_returns_the_rest(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    gate = master.gate()
    busy, waiting = run_frame(1, "wait", gate=str(gate)), run_frame(2, "done")
    link.run(busy, waiting)
    master.note("waiting m1")
    os.kill(pid, signal.SIGTERM)
    master.open_gate(gate)
    assert (outcome := link.expect(Outcome)).run == busy.run
    assert outcome.kind == OutcomeKind.DONE
    assert link.expect(Returned).runs == [waiting.run]
    assert link.expect(Bye).reason == "stop"
    assert master.status(pid) == 0
    assert "done m2" not in master.noted()


@pytest.mark.parametrize("limit", LIMITS)
def test_a_worker_at_its_limit_is_recycled_with_75(make_master: MakeMaster, limit: str) -> None:
    pool, order, reason = LIMITS[limit]
    master = make_master(**pool)
    pid, link = boot(master)
    first, second = run_frame(1, order), run_frame(2, "done")
    link.run(first, second)
    assert link.expect(Outcome).run == first.run
    returned = link.expect(Returned)
    assert returned.runs in ([second.run], [])  # [] when it had not been read yet
    assert link.expect(Bye).reason == reason
    assert master.status(pid) == 75
    assert master.leaving() == reason
    assert "done m2" not in master.noted()


def test_a_worker_that_is_asked_to_leave_as_its_runs_fail_is_recycled_with_75(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    gate = master.gate()
    busy, waiting = run_frame(1, "wait", gate=str(gate)), run_frame(2, "done")
    link.run(busy, waiting)
    master.note("waiting m1")
    link.send(Recall(leave=True))
    master.open_gate(gate)
    assert link.expect(Outcome).run == busy.run
    assert link.expect(Returned).runs == [waiting.run]
    assert link.expect(Bye).reason == "failing"
    assert master.status(pid) == 75
    assert master.leaving() == LeavingReason.FAILING


def test_an_idle_worker_that_is_too_old_is_recycled_with_75(make_master: MakeMaster) -> None:
    master = make_master(max_age_s=0.2)
    pid, link = boot(master)
    assert link.expect(Returned).runs == []
    assert link.expect(Bye).reason == "age"
    assert master.status(pid) == 75
    assert master.leaving() == LeavingReason.AGE


@pytest.mark.parametrize("order", PROGRAM_EXITS)
def test_a_handler_that_ends_the_process_gets_its_status_and_stays_marked(make_master: MakeMaster, order: str) -> None:
    what, status = PROGRAM_EXITS[order]
    master = make_master()
    pid, link = boot(master)
    link.run(run_of(what))
    assert master.status(pid) == status
    assert master.leaving() is None
    assert still_marked(master.slot())
    assert master.slot().owner() is None


def test_a_keyboard_interrupt_from_a_handler_fails_the_worker_with_70(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    link.run(run_frame(1, "keyboard_interrupt"))
    assert master.status(pid) == 70
    assert master.leaving() == LeavingReason.FAILED
    assert still_marked(master.slot())
    assert "KeyboardInterrupt" in master.stacks()


@pytest.mark.parametrize("init", ["failing_init", "exiting_init"])
def test_a_failing_init_is_a_failed_boot_with_78(make_master: MakeMaster, init: str) -> None:
    master = make_master(init=f"sample_handlers:{init}")
    master.boot()
    pid = master.fork()
    assert master.status(pid) == 78
    assert master.leaving() == LeavingReason.BOOT_FAILED
    assert init in master.stacks()
    assert init in master.errors.read_text()
    identity = master.slot().identity()
    assert identity is not None and not identity.ready


def test_a_segfault_leaves_the_python_stack(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    link.run(run_frame(1, "segfault"))
    assert master.status(pid) == -signal.SIGSEGV
    assert "sample_handlers.py" in master.stacks()


def test_a_program_that_replaced_the_worker_is_still_its_pid(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    gate = master.gate()
    link.run(run_frame(1, "exec", script=f"cat {gate}; exit 5"))
    eventually(lambda: link.is_closed(), "exec closes the link")
    master.open_gate(gate)
    assert master.status(pid) == 5


def test_sigint_and_sighup_are_for_the_master_only(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    assert master.forkserver is not None
    for target in (pid, master.forkserver.pid):
        os.kill(target, signal.SIGINT)
        os.kill(target, signal.SIGHUP)
    assert link.outcome_of(run_frame(1, "done")).kind == OutcomeKind.DONE
    assert master.quit() == 0


def test_sigterm_works_after_a_handler_has_meddled_with_signals(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    link.outcome_of(run_frame(1, "steal_signals"))
    os.kill(pid, signal.SIGTERM)
    assert master.status(pid) == 0
    assert master.leaving() == LeavingReason.STOP


def test_a_child_that_comes_back_out_of_a_handler_is_no_second_worker(make_master: MakeMaster) -> None:
    master = make_master()
    _, link = boot(master)
    assert link.outcome_of(run_frame(1, "fork_and_return")).kind == OutcomeKind.DONE
    assert master.note("child status") == "child status 0"
    assert link.outcome_of(run_frame(2, "done")).cell == 1
    assert master.noted().count("done m2") == 1


def test_a_child_of_a_handler_can_be_ended_by_sigterm(make_master: MakeMaster) -> None:
    master = make_master()
    _, link = boot(master)
    assert link.outcome_of(run_frame(1, "fork_and_terminate")).kind == OutcomeKind.DONE
    assert master.note("child status") == f"child status {-signal.SIGTERM}"


def test_exit_callbacks_of_init_run_on_a_clean_leave_and_those_of_the_import_do_not(make_master: MakeMaster) -> None:
    master = make_master(init="sample_handlers:init")
    pid, _ = boot(master)
    os.kill(pid, signal.SIGTERM)
    assert master.status(pid) == 0
    assert master.noted() == [f"init {pid}", "exit callback of init"]
    assert master.quit() == 0
    assert master.noted()[2:] == ["exit callback of the import"]


def test_exit_callbacks_run_when_a_handler_calls_sys_exit_but_not_after_os_exit(make_master: MakeMaster) -> None:
    master = make_master(init="sample_handlers:init")
    pid, link = boot(master)
    link.run(run_frame(1, "exit", **{"with": 3}))
    assert master.status(pid) == 3
    assert master.noted().count("exit callback of init") == 1
    pid, link = master.worker(generation=2)
    link.run(run_frame(2, "os_exit", **{"with": 3}))
    assert master.status(pid) == 3
    assert master.noted().count("exit callback of init") == 1


def test_a_group_on_record_is_in_the_slot(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    link.outcome_of(run_frame(1, "group"))
    group = master.slot().group()
    assert group is not None and group[0] == pid and group[1] > 0


def test_the_next_owner_of_a_slot_turns_the_dead_ones_run_into_a_doubt(make_master: MakeMaster) -> None:
    master = make_master()
    pid, link = boot(master)
    run = run_frame(1, "wait", gate=str(master.gate()))
    link.run(run)
    master.note("waiting m1")
    os.kill(pid, signal.SIGKILL)
    assert master.status(pid) == -signal.SIGKILL
    master.worker(generation=2)
    assert [(cell.kind, cell.run) for cell in master.slot().cells(0)] == [(OutcomeKind.IN_DOUBT, run.run)]


HANGING: tuple[tuple[str, int | None], ...] = (
    ("event", None),
    ("lock", None),
    ("pause", None),
    ("pipe", None),
    ("busy", 3),
    ("event", 3),
    ("alarm taken", None),
    ("signal taken", None),
)
"""How an exit callback hangs, and the status that the handler has left with; None: it was asked to leave."""


def test_an_exit_callback_that_hangs_does_not_change_the_status(make_master: MakeMaster) -> None:
    """Less than the 5 s for which a stop waits; all at once, so that the test takes as long as one."""
    master = make_master()
    master.boot()
    pids = []
    for slot, (way, status) in enumerate(HANGING):
        pid, link = master.worker(slot)
        pids.append(pid)
        if status is None:
            assert link.outcome_of(run_frame(slot, "hang_at_exit", way=way)).kind == OutcomeKind.DONE
        else:
            link.run(run_frame(slot, "hang_at_exit", way=way, status=status))
    for pid, (_way, status) in zip(pids, HANGING, strict=True):
        if status is None:
            os.kill(pid, signal.SIGTERM)
    began_s = time.monotonic()
    assert [master.status(pid) for pid in pids] == [status or 0 for _way, status in HANGING]
    assert time.monotonic() - began_s < phases.LEAVE_S
