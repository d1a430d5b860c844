"""The double fork: whose child a worker is, when its slot names it, what it inherits, what it outlives; its standby."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import msgspec
import pytest

from supervisor.errors import StateError
from supervisor.link.frames import Bye, Fork, Forked, ForkFailed, Outcome, Returned
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import LeavingReason, OutcomeKind
from supervisor.system import posix
from supervisor.worker.process import ForkHandshake, WorkerSpec, run_worker
from tests.support.forked import forked
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


def children_of(pid: int) -> list[int]:
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as listed:
        return [int(word) for word in listed.read().split()]
    return []


def standby_of(master: Master) -> int:
    """The pid of the forkserver's standby, once it has settled in."""
    assert master.forkserver is not None
    forkserver = master.forkserver.pid

    def found() -> list[int]:
        grandchildren = [pid for child in children_of(forkserver) for pid in children_of(child)]
        return [pid for pid in grandchildren if title_of(pid) == "preforkd: standby sample"]

    (pid,) = eventually(found, "there is a standby")
    return pid


def title_of(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/cmdline") as line:
        return line.read().rstrip("\0")
    return ""


def is_gone(pid: int) -> bool:
    return not posix.executes(pid)


def test_of_all_that_was_forked_only_workers_and_one_standby_are_left(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    workers = {master.fork(slot) for slot in range(4)}
    standby_of(master)
    assert master.forkserver is not None
    assert len(children_of(master.forkserver.pid)) == 1, "its intermediate"
    assert set(posix.own_children()) >= workers


def has_rehearsed(master: Master, standby: int) -> bool:
    """Whether the standby has booted once up to its Hello, and has closed everything again."""
    with suppress(StateError):
        slot = Slot(master.pool_dir / "rehearsal.slot", make=False)
        identity = slot.identity()
        return identity is not None and (identity.pid, identity.ready) == (standby, True) and slot.owner() is None
    return False


def targets_of(pid: int) -> list[str]:
    """What each descriptor of a process is: a path, `pipe`, `socket`."""
    return [str(entry.readlink()).partition(":")[0] for entry in Path(f"/proc/{pid}/fd").iterdir()]


def test_a_rehearsal_runs_no_user_code_and_leaves_nothing(make_master: MakeMaster) -> None:
    master = make_master(init="sample_handlers:init")
    master.boot()
    pid, _link = master.worker(0)
    noted, descriptors = len(master.noted()), targets_of(pid)
    standby = standby_of(master)
    eventually(lambda: has_rehearsed(master, standby), "the standby has rehearsed")
    held = eventually(lambda: (now := targets_of(standby)) and ("socket" not in now) and now, "its link is closed")
    assert held.count("/dev/null") == descriptors.count("/dev/null"), "its readiness pipe and stacks are closed, too"
    assert ".slot" not in Path(f"/proc/{standby}/maps").read_text()
    assert title_of(standby) == "preforkd: standby sample"
    assert len(master.noted()) == noted, "no user code has run"
    assert master.slot(1).identity() is None
    assert master.worker(1)[0] == standby
    assert "worker.spoiled" not in master.errors.read_text()


def test_a_standby_that_cannot_rehearse_becomes_a_worker(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    (master.pool_dir / "rehearsal.slot").mkdir()
    master.worker(0)
    standby = standby_of(master)
    assert master.worker(1)[0] == standby


def test_two_standbys_of_a_pool_do_not_disturb_each_other(make_master: MakeMaster) -> None:
    """As during a reload: the other standby has the slot of the rehearsal."""
    master = make_master()
    master.boot()
    other = Slot(master.pool_dir / "rehearsal.slot")
    assert other.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, 0)
    master.worker(0)
    standby = standby_of(master)
    assert master.worker(1)[0] == standby
    identity = other.identity()
    assert identity is not None
    assert identity.pid == os.getpid()


class StoppedMeanwhile:
    """The handshake of a standby that gets SIGTERM during its rehearsal."""

    is_needed = property(lambda self: os.kill(os.getpid(), signal.SIGTERM))

    def await_order(self, wake: object) -> None:
        """A standby would wait here for ever."""
        raise AssertionError("the signal was forgotten")

    settled = refused = await_adoption = await_order


def test_a_standby_stopped_during_its_rehearsal_leaves(make_master: MakeMaster) -> None:
    spec = WorkerSpec(make_master().start_frame(), lambda message: None, None)
    with forked(lambda: run_worker(spec, -1, cast(ForkHandshake, StoppedMeanwhile()))) as pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == os.EX_OK


def test_a_pool_that_wants_no_worker_has_no_standby(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    master.slot(5)
    master.inbox.send(Fork(7, 1))  # there is no such slot
    master.inbox.expect(ForkFailed)
    assert master.forkserver is not None
    before = children_of(master.forkserver.pid)
    standby_of(master)
    assert before == [], "up to its first order"


def test_the_standby_becomes_the_next_worker_and_has_run_nothing_of_its_users_before(make_master: MakeMaster) -> None:
    master = make_master(init="sample_handlers:init")
    master.boot()
    master.worker(0)
    standby = standby_of(master)
    noted = len(master.noted())
    assert noted == 1, "the worker has booted, the standby has not"
    assert master.slot(1).identity() is None
    pid, link = master.worker(1)
    assert pid == standby
    assert title_of(pid) == "preforkd: worker sample/1"
    assert os.getpgid(pid) == pid
    assert len(master.noted()) == noted + 1
    assert link.outcome_of(run_frame(1, "done")).kind == OutcomeKind.DONE
    assert standby_of(master) != standby


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("victim", ["standby", "intermediate"])
def test_a_standby_that_was_ended_is_done_without(make_master: MakeMaster, victim: str, signum: int) -> None:
    master = make_master()
    master.boot()
    master.fork(0)
    standby = standby_of(master)
    assert master.forkserver is not None
    (intermediate,) = children_of(master.forkserver.pid)
    os.kill({"standby": standby, "intermediate": intermediate}[victim], signum)
    eventually(functools.partial(is_gone, standby), "it is gone")
    assert master.fork(1) != standby
    assert standby_of(master) != standby
    assert "a standby ended before it was needed" in master.errors.read_text()


def test_a_standby_leaves_with_its_forkserver_and_before_it(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    worker = master.fork(0)
    standby = standby_of(master)
    assert master.quit() == 0
    assert is_gone(standby)
    assert not posix.is_child(standby), "the master has never seen it"
    assert posix.executes(worker)


def test_a_standby_does_not_outlive_a_forkserver_that_was_killed(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    worker = master.fork(0)
    standby = standby_of(master)
    assert master.forkserver is not None
    (intermediate,) = children_of(master.forkserver.pid)
    master.forkserver.kill()
    master.forkserver.wait()
    for pid in (intermediate, standby):
        eventually(functools.partial(is_gone, pid), "it is gone")
    assert posix.executes(worker)


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
            *(msgspec.json.encode(master.start_frame()).decode(), str(master.readiness_write), str(master.errors)),
        ],
        pass_fds=[master.readiness_write],
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
