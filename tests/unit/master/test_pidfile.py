"""The locks that keep daemons apart. (flock belongs to the opened file: one process can be both parties.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor import posix
from supervisor.errors import StateError
from supervisor.master.pidfile import Holder, LockFile, read_holder


def test_the_file_says_which_process_holds_it(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "pid", "the directory")
    holder = read_holder(tmp_path / "pid")
    assert holder == Holder(os.getpid(), posix.start_ticks(os.getpid()) or 0)
    assert holder.alive
    lock.release(remove=True)
    assert not (tmp_path / "pid").exists()


def test_a_second_daemon_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "pid", "the directory")
    with pytest.raises(StateError, match=f"in use by pid {os.getpid()}.*preforkd stop"):
        LockFile(tmp_path / "pid", "the directory")
    lock.release(remove=False)


@pytest.mark.parametrize("left", [b"", b"garbage", b"1 1\n", b"99999999 5\n"])
def test_a_stale_file_blocks_nobody(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "pid").write_bytes(left)
    LockFile(tmp_path / "pid", "the directory").release(remove=True)


def test_a_pid_given_to_another_program_is_not_taken_for_the_daemon(tmp_path: Path) -> None:
    ticks = posix.start_ticks(os.getpid()) or 0
    (tmp_path / "pid").write_text(f"{os.getpid()} {ticks - 1}\n")
    holder = read_holder(tmp_path / "pid")
    assert holder is not None
    assert not holder.alive


def test_a_file_that_is_missing_or_not_ours_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("hello\n")
    assert read_holder(tmp_path / "none") is None
    assert read_holder(tmp_path / "other") is None


def test_a_lock_in_a_missing_directory_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be opened"):
        LockFile(tmp_path / "none" / "pid", "the directory")
