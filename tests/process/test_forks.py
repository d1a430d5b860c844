"""Forks: a spare waits for its order and ends with its parents; failed forks are reported, and leave nothing."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from supervisor.forkserver import double_fork
from supervisor.forkserver.double_fork import DoubleFork, ForkHandshake, NoWorker
from supervisor.forkserver.server import Standbys
from supervisor.system import posix
from supervisor.worker.requests import Requests
from tests.support.waiting import eventually

WAITING = "a standby under test"


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Whatever a fork leaves becomes a child of the test, as it would become the master's."""
    before = set(posix.own_children())
    posix.become_subreaper()
    try:
        yield
        for pid in set(posix.own_children()) - before:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    finally:
        posix._prctl(posix._PR_SET_CHILD_SUBREAPER, 0)


def settled_for_good(handshake: ForkHandshake) -> NoReturn:
    order = handshake.await_order(Requests())
    if order != (3, 2**32 - 1):
        os._exit(9)
    handshake.settled()
    handshake.await_adoption()
    os._exit(7 if posix.die_with_parent(signal.SIGTERM, handshake.parent_pid) else 8)


def obedient(handshake: ForkHandshake) -> NoReturn:
    posix.set_title(WAITING)
    if handshake.await_order(Requests()) is None:
        os._exit(0)
    handshake.settled()
    while True:
        signal.pause()


def dead_at_once(handshake: ForkHandshake) -> NoReturn:
    os._exit(7)


def dead_of_its_order(handshake: ForkHandshake) -> NoReturn:
    handshake.await_order(Requests())
    os._exit(7)


def fatal_to_its_intermediate(handshake: ForkHandshake) -> NoReturn:
    intermediate = os.getppid()
    handshake.await_order(Requests())
    os.kill(intermediate, signal.SIGKILL)
    os._exit(7)


def deaf(handshake: ForkHandshake) -> NoReturn:
    posix.set_title(WAITING)
    while True:
        signal.pause()


def silent(handshake: ForkHandshake) -> NoReturn:
    handshake.await_order(Requests())
    deaf(handshake)


def without_a_slot(handshake: ForkHandshake) -> NoReturn:
    handshake.await_order(Requests())
    handshake.refused("the slot is locked by pid 7: ☃")
    os._exit(0)


def standby_of(intermediate: int) -> int:
    """The pid of the process that the intermediate has forked, once it is up."""

    def waiting() -> list[int]:
        children = Path(f"/proc/{intermediate}/task/{intermediate}/children").read_text().split()
        return [int(pid) for pid in children if Path(f"/proc/{pid}/cmdline").read_text().startswith(WAITING)]

    (pid,) = eventually(waiting, "the standby is there")
    return pid


def test_a_worker_that_settled_is_known_by_its_pid_and_becomes_an_orphan_by_the_time_it_thinks_so() -> None:
    pid = DoubleFork(settled_for_good).assign(3, 2**32 - 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 8, "not its intermediate's child any more"


def test_a_standby_waits_for_its_order_and_is_over_only_with_it() -> None:
    one = DoubleFork(obedient)
    standby = standby_of(one._intermediate_pid)
    assert not one.is_over
    assert one.assign(0, 1) == standby
    assert not posix.is_dying(standby), "it outlives its intermediate"
    assert posix.is_child(standby)


FAILURES: dict[str, tuple[Callable[[ForkHandshake], NoReturn], str]] = {
    "dead before its order": (dead_at_once, "did not take its slot and ended with status 7"),
    "dead of its order": (dead_of_its_order, "did not take its slot and ended with status 7"),
    "silent": (silent, "has not taken its slot in time .* and was killed"),
    "refused": (without_a_slot, "the slot is locked by pid 7: ☃"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_fork_that_fails_is_told_and_leaves_nothing(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, reason = FAILURES[case]
    if case == "silent":
        monkeypatch.setattr(double_fork, "_WORD_S", 0.2)
    before = posix.own_children()
    with pytest.raises(NoWorker, match=reason):
        DoubleFork(worker).assign(0, 1)
    assert posix.own_children() == before


@pytest.mark.parametrize("worker", [obedient, dead_at_once, deaf])
def test_a_standby_that_is_not_needed_leaves_nothing(worker: Callable[[ForkHandshake], NoReturn]) -> None:
    before = posix.own_children()
    one = DoubleFork(worker)
    assert "worker" in one.dismiss()
    assert posix.own_children() == before


def test_a_standby_dies_with_its_intermediate_and_that_is_seen() -> None:
    one = DoubleFork(deaf)
    standby = standby_of(one._intermediate_pid)
    os.kill(one._intermediate_pid, signal.SIGKILL)
    eventually(lambda: one.is_over, "the forkserver sees it")
    assert os.waitstatus_to_exitcode(os.waitpid(standby, 0)[1]) == -signal.SIGKILL
    with pytest.raises(NoWorker, match="died or did not answer"):
        one.assign(0, 1)


def test_i3_a_standby_whose_intermediate_died_of_the_order_may_have_the_slot() -> None:
    """So it does not count as one that died waiting, for which another one would be born with the same generation."""
    one = DoubleFork(fatal_to_its_intermediate)
    with pytest.raises(NoWorker, match="died or did not answer") as raised:
        one.assign(0, 1)
    assert type(raised.value) is NoWorker


def test_an_intermediate_that_stands_still_is_ended_with_its_standby(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(double_fork, "_REPORT_S", 0.1)
    one = DoubleFork(obedient)
    standby = standby_of(one._intermediate_pid)
    os.kill(one._intermediate_pid, signal.SIGSTOP)
    os.kill(standby, signal.SIGSTOP)
    assert one.dismiss().endswith("died")
    assert os.waitstatus_to_exitcode(os.waitpid(standby, 0)[1]) == -signal.SIGKILL


def standbys_of(*workers: Callable[[ForkHandshake], NoReturn]) -> Standbys:
    """With a spare of the first kind; the next fork is of the second."""
    following = iter(workers)
    standbys = Standbys(lambda: DoubleFork(next(following)), select.poll())
    standbys._due_s = 0.0
    standbys.replenish()
    return standbys


def test_a_spare_that_dies_of_its_order_is_followed_by_a_fork_on_the_spot() -> None:
    pid = standbys_of(dead_of_its_order, obedient).start_worker(0, 1)
    assert posix.is_child(pid)
    assert not posix.is_dying(pid)


def test_a_standby_that_is_over_gets_no_order() -> None:
    standbys = standbys_of(deaf, obedient)
    standby = standbys._standby
    assert standby is not None
    os.kill(standby._intermediate_pid, signal.SIGKILL)
    eventually(lambda: standby.is_over, "it is over")
    assert not posix.is_dying(standbys.start_worker(0, 1))


def test_the_children_forget_what_is_the_forkservers_alone() -> None:
    read, write = os.pipe()
    one = DoubleFork(obedient, lambda: os.close(write))
    standby_of(one._intermediate_pid)
    os.close(write)
    eventually(lambda: os.read(read, 1) == b"", "no process has the other end")
    os.close(read)
    one.dismiss()


def test_what_was_killed_is_dying_from_that_moment_on() -> None:
    one = DoubleFork(deaf)
    standby = standby_of(one._intermediate_pid)
    assert not posix.is_dying(standby)
    os.kill(standby, signal.SIGKILL)
    assert posix.is_dying(standby), "no matter how far it has got"
    one.dismiss()
    assert posix.is_dying(standby)
