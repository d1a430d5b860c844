"""Who is the daemon: the kernel is asked who holds the lock, and whose process that is; a file is not believed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.master.host.pidfile import Holder, LockFile, find_holder
from supervisor.system import posix
from tests.support.forked import forked
from tests.support.nobody import NOBODY, a_public_folder, needs_root


@contextmanager
def locked(path: Path, uid: int = 0) -> Iterator[int]:
    """Another process that holds this lock, as this user; gives its pid."""
    told, tell = os.pipe()

    def hold() -> None:
        if uid:
            os.setresuid(uid, uid, uid)
        with LockFile(path, "the directory"):
            os.write(tell, b"1")
            signal.pause()

    try:
        with forked(hold) as pid:
            os.close(tell)
            assert os.read(told, 1), "the lock is held"
            yield pid
    finally:
        os.close(told)


def test_the_process_that_holds_the_lock_is_found_whatever_is_written_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with locked(path) as pid:
        for text in (f"{pid}\n", "1\n", f"1 {posix.start_ticks(1)}\n", ""):
            path.write_text(text)
            assert find_holder(path) == Holder(pid, posix.start_ticks(pid) or 0)
        with pytest.raises(StateError, match=f"in use by pid {pid} "):
            LockFile(path, "the directory")
    assert find_holder(path) is None


def test_a_process_that_is_only_named_is_not_found(tmp_path: Path) -> None:
    with forked(signal.pause) as unrelated:
        for text in (f"{unrelated}\n", f"{unrelated} {posix.start_ticks(unrelated)}\n"):
            (tmp_path / "pid").write_text(text)
            assert find_holder(tmp_path / "pid") is None


def test_a_link_to_the_lock_of_another_daemon_names_no_holder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with locked(tmp_path / "other" / "pid"):
        (tmp_path / "pid").symlink_to(tmp_path / "other" / "pid")
        assert find_holder(tmp_path / "pid") is None


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("how", ["hard link", "moved file", "directory of another owner"])
def test_a_lock_of_roots_in_a_directory_of_another_user_names_no_holder(tmp_path: Path, how: str) -> None:
    """The daemon's user cannot have root signal a process of root's."""
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, other):
        folder.mkdir()
    with locked(other / "pid"):
        if how == "hard link":
            os.link(other / "pid", run / "preforkd.pid")
        elif how == "moved file":
            (other / "pid").rename(run / "preforkd.pid")
        else:
            run = other
        os.chown(run, NOBODY, NOBODY)
        name = "pid" if run is other else "preforkd.pid"
        assert find_holder(run / name) is None


@pytest.mark.root
@needs_root
def test_another_users_process_that_holds_a_file_of_the_daemons_is_not_the_daemon() -> None:
    with a_public_folder() as folder:
        folder.chmod(0o777)
        path = folder / "pid"
        with locked(path, NOBODY):
            assert find_holder(path) is None, "file and process are not the directory owner's"
            os.chown(path, 0, 0)
            assert find_holder(path) is None, "the process is not the directory owner's"
            os.chown(path, NOBODY, NOBODY)
            os.chown(folder, NOBODY, NOBODY)
            assert find_holder(path) is not None
            assert find_holder(path, owner=1) is None, "that is not the owner whom the configuration names"
