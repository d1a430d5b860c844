"""Time limits with real handlers: soft and hard, in Python and in C code that never lets the interpreter run."""

from __future__ import annotations

import os
import signal

from supervisor.link.frames import Outcome
from supervisor.messages.message import Properties
from supervisor.scoreboard.words import LeavingReason, LimitSource, OutcomeKind
from supervisor.system.clock import monotonic_s
from tests.support.pools import Link, MakeMaster, Master, run_frame
from tests.support.waiting import eventually


def boot(master: Master) -> tuple[int, Link]:
    master.boot()
    return master.worker()


def test_the_soft_limit_raises_in_the_handler_and_is_its_own_outcome(make_master: MakeMaster) -> None:
    master = make_master(soft_timeout_s=0.2, timeout_s=30.0)
    _, link = boot(master)
    outcome = link.outcome_of(run_frame(1, "spin"))
    assert (outcome.kind, outcome.reason) == (OutcomeKind.SOFT_TIMEOUT, "the soft limit of 0.2 s is over")
    assert outcome.elapsed_s >= 0.2
    assert "sample_handlers.py" in outcome.stack


def test_a_handler_that_cleans_up_and_returns_after_the_soft_limit_is_done(make_master: MakeMaster) -> None:
    master = make_master(soft_timeout_s=0.2, timeout_s=30.0)
    _, link = boot(master)
    assert link.outcome_of(run_frame(1, "spin", swallow="return")).kind == OutcomeKind.DONE
    assert link.outcome_of(run_frame(2, "done")).kind == OutcomeKind.DONE, "no limit is left over"


def test_a_limit_ends_with_its_run(make_master: MakeMaster) -> None:
    master = make_master(timeout_s=0.3)
    _, link = boot(master)
    link.outcome_of(run_frame(1, "done"))
    over_s = monotonic_s() + 0.4
    eventually(lambda: monotonic_s() > over_s, "the first run's limit would be over")
    assert link.outcome_of(run_frame(2, "done")).kind == OutcomeKind.DONE


def test_a_run_right_behind_another_has_the_whole_of_its_own_limit(make_master: MakeMaster) -> None:
    """It begins on the timer of the one before, which rings early and is set again."""
    master = make_master(soft_timeout_s=0.5, timeout_s=30.0)
    _, link = boot(master)
    link.run(run_frame(1, "done"), run_frame(2, "spin"))
    assert link.expect(Outcome).kind == OutcomeKind.DONE
    outcome = link.expect(Outcome)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.SOFT_TIMEOUT, "the soft limit of 0.5 s is over")
    assert outcome.elapsed_s >= 0.5


def test_a_run_right_behind_one_with_more_time_ends_at_its_own_limit(make_master: MakeMaster) -> None:
    master = make_master(timeout_header="x-limit", timeout_s=30.0)
    pid, link = boot(master)
    own = {"properties": Properties(headers={"x-limit": "300ms"})}
    link.run(run_frame(1, "done"), run_frame(2, "spin", facts=own))
    assert master.status(pid) == 124


def test_the_hard_limit_ends_the_worker_with_124_and_leaves_the_stack(make_master: MakeMaster) -> None:
    master = make_master(soft_timeout_s=0.1, timeout_s=0.4)
    pid, link = boot(master)
    link.run(run_frame(1, "spin", swallow="spin"))
    assert master.status(pid) == 124
    assert master.leaving() == LeavingReason.TIMEOUT
    running = master.slot().running()
    assert running is not None and running.message_id == "m1", "the run stays in doubt"
    assert "in spin" in master.stacks()
    assert "soft timeout was seen" in master.noted()


def test_in_c_code_the_limit_waits_but_the_stack_can_be_had(make_master: MakeMaster) -> None:
    """The worker cannot leave by itself; that is the master's to do, and it asks for the stack first."""
    master = make_master(timeout_s=0.2)
    pid, link = boot(master)
    link.run(run_frame(1, "spin_in_c"))
    master.note("spinning m1")
    running = eventually(master.slot().running, "the run is marked")
    assert running is not None and running.deadline_s - running.started_s < 1
    os.kill(pid, signal.SIGQUIT)
    eventually(lambda: "in spin_in_c" in master.stacks(), "SIGQUIT dumps the stack")
    assert master.leaving() is None
    os.kill(pid, signal.SIGKILL)
    assert master.status(pid) == -signal.SIGKILL


def test_a_message_brings_its_own_limit_and_the_slot_says_so(make_master: MakeMaster) -> None:
    master = make_master(timeout_header="x-limit", timeout_s=30.0)
    pid, link = boot(master)
    link.run(run_frame(1, "spin", facts={"properties": Properties(headers={"x-limit": "300ms"})}))
    running = eventually(master.slot().running, "the run is marked")
    assert running is not None and running.source == LimitSource.MESSAGE
    assert master.status(pid) == 124


def test_a_limit_that_cannot_be_read_is_warned_about_and_the_pools_holds(make_master: MakeMaster) -> None:
    master = make_master(timeout_header="x-limit")
    _, link = boot(master)
    outcome = link.outcome_of(run_frame(1, "done", facts={"properties": Properties(headers={"x-limit": "soon"})}))
    assert outcome.kind == OutcomeKind.DONE
    assert "x-limit" in master.errors.read_text()


def test_extend_moves_the_deadline_in_the_slot_and_the_alarm(make_master: MakeMaster) -> None:
    master = make_master(soft_timeout_s=0.2, timeout_s=0.5, max_timeout_s=60.0)
    pid, link = boot(master)
    link.run(run_frame(1, "spin", extend=0.5, swallow="spin"))
    master.note("soft timeout was seen")

    def extended() -> bool:
        running = master.slot().running()
        return running is not None and running.source == LimitSource.EXTENDED

    eventually(extended, "the slot shows the new deadline")
    outcome = link.expect(Outcome)
    assert outcome.kind == OutcomeKind.SOFT_TIMEOUT, "the soft limit has moved, and strikes again"
    assert 0.7 <= outcome.elapsed_s < 20
    os.kill(pid, signal.SIGTERM)
    assert master.status(pid) == 0
