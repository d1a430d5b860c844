"""A second daemon on the same state, also where the first one's lock files were deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.daemon import Daemon, cleaned_up, daemon
from tests.support.waiting import eventually


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


def test_a_state_directory_is_free_as_soon_as_its_daemon_is_dead(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        under_test.kill()
        eventually(lambda: not under_test.processes(), "all are gone")
        under_test.start()
