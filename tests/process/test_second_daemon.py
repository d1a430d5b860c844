"""A second daemon on the same state, also where the first one's lock files were deleted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.master.host.pidfile import NameLock
from tests.support.daemon import Daemon, cleaned_up, daemon
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

_HOLD = """
import sys
from pathlib import Path
from supervisor.master.host.pidfile import NameLock
with NameLock(Path(sys.argv[1]), "the directory"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_no_second_daemon_starts_on_a_state_directory_whose_files_were_deleted(tmp_path: Path) -> None:
    with daemon(tmp_path) as first:
        first_pid = first.status()["pid"]
        (tmp_path / "second").mkdir()
        second = Daemon(tmp_path / "second", "workers = 1")
        second.state_dir = first.state_dir
        second.configure("workers = 1")
        shutil.rmtree(first.state_dir)
        shutil.rmtree(first.runtime_dir)
        with cleaned_up(second, start=False):
            second.start(ready=False)
            assert second.wait() != 0
            assert f"is in use by pid {first_pid}" in second.log_path.read_text()


def test_a_copy_of_a_living_daemons_state_directory_is_refused_and_its_children_live_on(tmp_path: Path) -> None:
    with daemon(tmp_path) as first:
        consumer = first.pool()["consumer"]["pid"]
        (tmp_path / "second").mkdir()
        second = Daemon(tmp_path / "second", "workers = 1")
        shutil.copytree(first.state_dir, second.state_dir, ignore=shutil.ignore_patterns("*.bell"))
        with cleaned_up(second, start=False):
            second.start(ready=False)
            assert second.wait() == 1
            assert f"is a copy of that of a running daemon (pid {first.status()['pid']})" in second.log_path.read_text()
        assert first.exits() == []
        assert first.pool()["consumer"]["pid"] == consumer


def test_a_state_directory_is_free_as_soon_as_its_daemon_is_dead(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        under_test.kill()
        eventually(lambda: not under_test.processes(), "all are gone")
        under_test.start()


@contextmanager
def holder(directory: Path, *namespaces: str) -> Iterator[None]:
    """A process in these namespaces that has the name of a directory."""
    command = [*namespaces, sys.executable, "-c", _HOLD, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield
        finally:
            process.stdin.close()
            process.wait(30)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")
def test_containers_on_the_hosts_network_may_have_directories_of_one_name(tmp_path: Path) -> None:
    container = ("unshare", "--pid", "--fork")
    with (
        holder(tmp_path, *container),
        holder(tmp_path, *container),
        holder(tmp_path),
        pytest.raises(StateError, match=r"is in use by pid \d+, though its lock is gone"),
    ):
        NameLock(tmp_path, "the directory")
