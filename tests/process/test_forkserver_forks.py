"""The double fork: whose child a worker is, when its slot names it, what it inherits, what it outlives."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from supervisor import posix
from supervisor.link.frames import Bye, Fork, Forked, ForkFailed, Outcome, Returned
from supervisor.scoreboard.words import LeavingReason, OutcomeKind
from tests.support.pools import ROOT, MakeMaster, Master, run_frame
from tests.support.waiting import eventually


def test_when_a_fork_is_answered_the_slot_names_the_worker_and_it_is_ours(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    for slot in range(5):
        pid = master.fork(slot, generation=7)
        identity = master.slot(slot).identity()
        assert identity is not None
        assert (identity.pid, identity.generation) == (pid, 7)
        assert identity.start_ticks == posix.start_ticks(pid)
        assert identity.boot_id == posix.boot_id()
        assert master.slot(slot).owner() == pid
        eventually(functools.partial(posix.is_child, pid), "the worker is the master's own child")


def test_the_intermediate_parents_are_not_left_behind(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    workers = {master.fork(slot) for slot in range(4)}
    assert master.forkserver is not None
    children = f"/proc/{master.forkserver.pid}/task/{master.forkserver.pid}/children"
    with open(children) as listed:
        assert listed.read().split() == []
    assert set(posix.own_children()) >= workers


def test_orders_may_be_sent_ahead(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    for slot in range(6):
        master.slot(slot)
    master.inbox.send(*(Fork(slot, 1) for slot in range(6)))
    answers = [master.inbox.expect(Forked) for _ in range(6)]
    master.workers |= {answer.pid for answer in answers}
    assert [answer.slot for answer in answers] == list(range(6))
    assert sorted(master.rung() for _ in range(6)) == [(slot, 1) for slot in range(6)]


def test_a_slot_whose_worker_lives_gets_no_second_one(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    others = set(posix.own_children())
    pid, link = master.worker()
    master.inbox.send(Fork(0, 2))
    refusal = master.inbox.expect(ForkFailed)
    assert (refusal.slot, refusal.generation) == (0, 2)
    assert refusal.reason.endswith(f"is locked by pid {pid}: its worker is still alive")
    assert link.outcome_of(run_frame(1, "done")).kind == OutcomeKind.DONE
    assert set(posix.own_children()) - {pid} <= others


def test_a_slot_that_cannot_be_opened_is_a_failed_order_not_a_dead_forkserver(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    (master.pool_dir / "slots" / "0.slot").mkdir()
    master.inbox.send(Fork(0, 1))
    assert "0.slot" in master.inbox.expect(ForkFailed).reason
    master.fork(1)


def test_a_worker_makes_no_slot_of_its_own(make_master: MakeMaster) -> None:
    """Two files of one name would be two locks for one slot."""
    master = make_master()
    master.boot()
    master.inbox.send(Fork(5, 1))
    assert "5.slot" in master.inbox.expect(ForkFailed).reason
    assert not (master.pool_dir / "slots" / "5.slot").exists()


def test_workers_live_on_when_their_forkserver_dies(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    assert master.forkserver is not None
    master.forkserver.kill()
    master.forkserver.wait()
    assert link.outcome_of(run_frame(1, "done")).kind == OutcomeKind.DONE


def test_the_masters_channel_closes_with_the_forkserver_though_workers_live(make_master: MakeMaster) -> None:
    """A worker that kept the forkserver's end open would hide its death."""
    master = make_master()
    master.boot()
    master.worker()
    assert master.quit() == 0
    eventually(master.inbox.is_closed, "the master sees the end of the channel")


def test_a_killed_worker_frees_its_slot_for_the_next_one(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    for generation in range(1, 4):
        pid, _ = master.worker(generation=generation)
        os.kill(pid, signal.SIGKILL)
        assert master.status(pid) == -signal.SIGKILL
        assert master.slot().owner() is None


@contextmanager
def doomed_master(master: Master) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A master that can be killed, with `master`'s pool: its process, and the pids of its forkserver and worker.

    What it leaves behind becomes ours, since `master` made this process a subreaper.
    """
    doomed = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.support.doomed_master"),
            *(msgspec.json.encode(master.start_frame()).decode(), str(master.bell_write), str(master.errors)),
        ],
        pass_fds=[master.bell_write],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    with doomed:
        try:
            assert doomed.stdout is not None
            forkserver, worker = (int(word) for word in doomed.stdout.readline().split())
            master.workers |= {forkserver, worker}
            yield doomed, forkserver, worker
        finally:
            _kill(doomed)


def _kill(doomed: subprocess.Popen[str]) -> None:
    doomed.kill()
    doomed.wait(20)  # from now on its children are ours


def test_when_the_master_dies_its_forkserver_dies_and_its_worker_finishes_marks_and_leaves(
    make_master: MakeMaster,
) -> None:
    master = make_master()
    gate = master.gate()
    with doomed_master(master) as (doomed, forkserver, worker):
        link = master.accept()
        busy, ahead = run_frame(1, "wait", gate=str(gate)), run_frame(2, "done")
        link.run(busy, ahead)
        master.note("waiting m1")
        _kill(doomed)
        assert master.status(forkserver) == -signal.SIGKILL
        assert master.slot().owner() == worker
        master.open_gate(gate)
        assert link.expect(Outcome).run == busy.run
        assert link.expect(Returned).runs == [ahead.run]
        assert link.expect(Bye).reason == "stop"
        assert master.status(worker) == 0
    assert [(cell.kind, cell.run) for cell in master.slot().cells(0)] == [(OutcomeKind.DONE, busy.run)]
    assert master.leaving() == LeavingReason.STOP


def test_an_idle_worker_leaves_with_its_master(make_master: MakeMaster) -> None:
    master = make_master()
    with doomed_master(master) as (doomed, forkserver, worker):
        link = master.accept()
        _kill(doomed)
        link.expect(Returned)
        assert link.expect(Bye).reason == "stop"
        assert (master.status(worker), master.status(forkserver)) == (0, -signal.SIGKILL)
