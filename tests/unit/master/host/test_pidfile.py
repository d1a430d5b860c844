"""The locks that keep daemons apart. (flock belongs to the opened file: one process can be both parties.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.master.host.pidfile import LockFile, find_holder


def test_the_file_holds_one_number_for_kill(tmp_path: Path) -> None:
    with LockFile(tmp_path / "pid", "the directory", remove=True):
        assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "pid").exists()


def test_a_second_daemon_is_told_that_the_directory_is_in_use(tmp_path: Path) -> None:
    in_use = pytest.raises(StateError, match=r"the directory is in use by .*preforkd stop")
    with LockFile(tmp_path / "pid", "the directory"), in_use:
        LockFile(tmp_path / "pid", "the directory")
    assert (tmp_path / "pid").exists()


@pytest.mark.parametrize("left", [b"", b"garbage", b"1 1\n", b"99999999 5\n", b"1\n"])
def test_a_stale_file_blocks_no_daemon_and_names_no_holder(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "pid").write_bytes(left)
    assert find_holder(tmp_path / "pid") is None
    with LockFile(tmp_path / "pid", "the directory"):
        pass


def test_a_lock_in_a_missing_directory_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be opened"):
        LockFile(tmp_path / "none" / "pid", "the directory")


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    with pytest.raises(StateError, match="this is not a file; remove it"):
        LockFile(tmp_path / "pid", "the directory")
    assert find_holder(tmp_path / "pid") is None
