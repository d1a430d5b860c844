"""The kernel lock on a slot is its worker's life: freed by its death alone, kept by no other process."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.scoreboard import layout
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import OutcomeKind
from tests.support.disks import small_disk
from tests.support.forked import forked, kill_and_reap
from tests.support.slots import OpenSlot, assert_seeded_cell, mark_seeded, opened_slots
from tests.support.waiting import eventually

GRANDCHILD_S = 60.0
"""No process waits for it: a grandchild ends by itself where a failing test did not end it."""


@pytest.fixture
def open_slot() -> Iterator[OpenSlot]:
    with opened_slots() as opener:
        yield opener


def owner_of(path: Path, then: Callable[[Slot], object] = lambda slot: None) -> Callable[[], None]:
    """A worker that takes the slot, does something, and stays."""

    def live() -> None:
        slot = Slot(path)
        assert slot.take(os.getpid(), 1, 1)
        then(slot)
        slot.mark_ready()
        while True:
            signal.pause()

    return live


def await_ready(slot: Slot) -> int:
    """The pid of the worker that has the slot, once it is ready."""
    identity = eventually(lambda: (who := slot.identity()) and who.ready and who, "the worker has the slot")
    assert identity
    return identity.pid


def test_a_taken_slot_names_its_owner_and_cannot_be_taken(open_slot: OpenSlot, tmp_path: Path) -> None:
    master = open_slot(tmp_path / "0.slot")
    with forked(owner_of(master.path)) as pid:
        assert await_ready(master) == pid
        assert master.owner() == pid
        assert not master.take(os.getpid(), 1, 2)
        identity = master.identity()
        assert identity is not None
        assert identity.generation == 1


def test_kill_9_of_the_owner_frees_the_slot_and_leaves_its_run_in_doubt(open_slot: OpenSlot, tmp_path: Path) -> None:
    master = open_slot(tmp_path / "0.slot")
    with forked(owner_of(master.path, lambda slot: mark_seeded(slot, 5))) as pid:
        await_ready(master)
        kill_and_reap(pid)
    assert master.owner() is None
    assert master.running() is not None
    assert master.take(os.getpid(), 1, 2)
    (cell,) = master.cells(0)
    assert (cell.kind, assert_seeded_cell(cell)) == (OutcomeKind.IN_DOUBT, 5)


def test_a_stopped_owner_keeps_its_slot(open_slot: OpenSlot, tmp_path: Path) -> None:
    master = open_slot(tmp_path / "0.slot")
    with forked(owner_of(master.path)) as pid:
        await_ready(master)
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        assert master.owner() == pid


def test_a_grandchild_that_lives_on_does_not_keep_the_slot(open_slot: OpenSlot, tmp_path: Path) -> None:
    master = open_slot(tmp_path / "0.slot")
    held_by_grandchild, held = os.pipe()

    def leave_a_grandchild(slot: Slot) -> None:
        os.close(held_by_grandchild)
        grandchild = os.fork()
        if grandchild == 0:
            select.select([], [], [], GRANDCHILD_S)
            os._exit(0)
        slot.record_group(grandchild, 1)
        os.close(held)

    with forked(owner_of(master.path, leave_a_grandchild)) as pid:
        os.close(held)
        await_ready(master)
        group = master.group()
        assert group is not None
        kill_and_reap(pid)
        try:
            os.kill(group[0], 0)  # it lives, with the slot's descriptor and mapping inherited
            assert master.owner() is None
            assert master.take(os.getpid(), 1, 2)
        finally:
            os.kill(group[0], signal.SIGKILL)
    assert os.read(held_by_grandchild, 1) == b""  # the end of the pipe says that the grandchild is gone
    os.close(held_by_grandchild)


def test_a_subprocess_that_closes_everything_does_not_free_the_slot(open_slot: OpenSlot, tmp_path: Path) -> None:
    master = open_slot(tmp_path / "0.slot")

    def run_a_program(slot: Slot) -> None:
        subprocess.run([sys.executable, "-S", "-c", "import os; os.closerange(3, 256)"], check=True, close_fds=False)

    with forked(owner_of(master.path, run_a_program)) as pid:
        await_ready(master)
        assert master.owner() == pid


def test_reading_and_looking_at_the_lock_does_not_free_it(open_slot: OpenSlot, tmp_path: Path) -> None:
    master = open_slot(tmp_path / "0.slot")

    def use_it(slot: Slot) -> None:
        assert slot.owner() is None  # one's own lock is not in one's own way
        slot.identity(), slot.running(), slot.cells(0), slot.marks_complete_since(1)

    with forked(owner_of(master.path, use_it)) as pid:
        await_ready(master)
        assert master.owner() == pid


def test_a_file_of_another_version_is_not_replaced_under_a_live_owner(open_slot: OpenSlot, tmp_path: Path) -> None:
    master = open_slot(tmp_path / "0.slot")
    with forked(owner_of(master.path)) as pid:
        await_ready(master)
        with master.path.open("r+b") as file:
            file.write(b"an older")
        with pytest.raises(StateError, match=f"but pid {pid} is using it"):
            Slot(master.path)
        kill_and_reap(pid)
    assert "set aside" in open_slot(master.path).damage


def reaped(pid: int) -> int:
    return os.waitpid(pid, os.WNOHANG)[0]


def test_two_processes_that_make_a_slot_at_once_share_one_file(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"{number}.slot"
        start_read, start = os.pipe()

        def make(path: Path = path, start_read: int = start_read, start: int = start) -> None:
            os.close(start)
            os.read(start_read, 1)
            slot = Slot(path)
            if slot.take(os.getpid(), 1, 1):
                signal.pause()

        with forked(make) as one, forked(make) as other:
            os.close(start)
            os.close(start_read)
            loser = eventually(lambda: reaped(one) or reaped(other), "one of them leaves without the slot")
            kill_and_reap(other if loser == one else one)


@pytest.mark.root
def test_a_full_disk_is_an_error_with_path_and_free_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "full", "16k") as disk:
        with pytest.raises(StateError, match=r"full/0\.slot: .*No space left on device \(16 KiB free\); make room"):
            Slot(disk.path / "0.slot")
        assert list(disk.path.iterdir()) == []


def test_the_lock_is_a_posix_lock_on_the_whole_file(open_slot: OpenSlot, tmp_path: Path) -> None:
    master = open_slot(tmp_path / "0.slot")
    with forked(owner_of(master.path)):
        await_ready(master)
        with master.path.open("r+b") as file, pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, layout.FILE_BYTES - 1)
