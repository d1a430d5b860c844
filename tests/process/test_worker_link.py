"""A worker whose consumer goes, comes back, is late, or never was: nothing is lost, nothing is started twice."""

from __future__ import annotations

import os
import signal

from supervisor.link.frames import VERSION, Bye, Outcome, Publish, Published, Returned
from supervisor.scoreboard.words import LeavingReason, OutcomeKind
from tests.support.pools import MakeMaster, run_frame
from tests.support.waiting import eventually


def test_a_worker_is_ready_once_its_hello_is_sent_even_before_a_consumer_looks(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    pid = master.fork(slot=2, generation=9)
    assert master.rung() == (2, 9)
    identity = master.slot(2).identity()
    assert identity is not None and identity.ready
    hello = master.accept().hello
    assert (hello.version, hello.slot, hello.generation, hello.pid, hello.held) == (VERSION, 2, 9, pid, [])


def test_a_run_goes_on_without_its_consumer_and_the_next_one_hears_what_is_held(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    gate, second_gate = master.gate("first"), master.gate("second")
    running = run_frame(1, "wait", gate=str(gate))
    ahead = [run_frame(2, "wait", gate=str(second_gate)), run_frame(3, "done")]
    link.run(running, *ahead)
    master.note("waiting m1")
    link.close()
    master.open_gate(gate)
    link = master.accept()
    assert link.hello.held == [run.run for run in ahead]
    assert [cell.run for cell in master.slot().cells(0)] == [running.run]
    master.open_gate(second_gate)
    assert [link.expect(Outcome).run for _ in ahead] == [run.run for run in ahead]


def test_an_idle_worker_reconnects_when_its_consumer_is_replaced(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    for number in range(3):
        link.close()
        link = master.accept()
        assert link.outcome_of(run_frame(number, "done")).kind == OutcomeKind.DONE


def test_a_publish_without_answer_is_sent_again_to_the_next_consumer(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    pid, link = master.worker()
    run, ahead = run_frame(1, "publish"), run_frame(2, "done")
    link.run(run, ahead)
    publish = link.expect(Publish)
    link.close()
    link = master.accept()
    assert link.hello.held == [run.run, ahead.run]
    assert link.expect(Publish) == publish
    os.kill(pid, signal.SIGTERM)  # which waits until the fate of the publishes is known
    link.send(Published(run.run, ok=True, reason=""))
    assert link.expect(Outcome).kind == OutcomeKind.DONE
    assert link.expect(Returned).runs == [ahead.run]
    assert link.expect(Bye).reason == "stop"
    assert master.status(pid) == 0


def test_a_publish_that_was_answered_twice_counts_once(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    run = run_frame(1, "publish")
    link.run(run)
    link.expect(Publish)
    link.send(Published(run.run, ok=True, reason=""), Published(run.run, ok=True, reason=""))
    assert link.expect(Outcome).kind == OutcomeKind.DONE
    assert link.outcome_of(run_frame(2, "done")).cell == 1


def test_a_worker_leaves_on_request_while_no_consumer_listens(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    master.link_path.unlink()
    pid = master.fork()
    os.kill(pid, signal.SIGTERM)
    assert master.status(pid) == 0
    assert master.leaving() == LeavingReason.STOP


def test_a_worker_that_found_no_socket_connects_when_there_is_one(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    aside = master.link_path.rename(master.home / "aside")
    master.fork()
    eventually(lambda: master.slot().identity(), "the worker has its slot")
    aside.rename(master.link_path)
    assert master.accept().outcome_of(run_frame(1, "done")).kind == OutcomeKind.DONE


def test_a_goodbye_waits_for_the_next_consumer(make_master: MakeMaster) -> None:
    """The dead consumer's listening socket is the master's: what a leaving worker says is read later."""
    master = make_master()
    master.boot()
    pid = master.fork()
    master.rung()
    os.kill(pid, signal.SIGTERM)
    assert master.status(pid) == 0
    link = master.accept()
    assert link.hello.pid == pid
    link.expect(Returned)
    assert link.expect(Bye).reason == "stop"
