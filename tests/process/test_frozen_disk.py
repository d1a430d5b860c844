"""A state directory whose disk takes no writes for a while: the daemon waits, and then goes on without a loss.

The disk is an ext4 that is frozen as a snapshot freezes it. This is a limit that docs/guarantees.md names.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, cleaned_up
from tests.support.disks import FreezableDisk, freezable_disk
from tests.support.waiting import eventually

SETTINGS = 'workers = 2\nmax_attempts = 3\nretry_delays = ["100ms"]\n'


class OnDisk(Daemon):
    """A daemon whose state directory is on a disk of its own."""

    def __init__(self, directory: Path, disk: FreezableDisk) -> None:
        self.disk = disk
        super().__init__(directory, SETTINGS)

    def configure(self, settings: str, daemon: str = "") -> None:
        """As any, with its state on the disk."""
        self.state_dir = self.disk.path / "state"
        super().configure(settings, daemon)

    def waits_for_the_disk(self) -> bool:
        """Whether the master is in state D."""
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "D"


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[OnDisk]:
    with freezable_disk(tmp_path) as disk:
        under_test = OnDisk(tmp_path, disk)
        with cleaned_up(under_test, start=True):
            try:
                yield under_test
            finally:
                disk.thaw()


def test_a_daemon_on_a_frozen_disk_waits_and_then_goes_on_without_a_loss(on_disk: OnDisk) -> None:
    on_disk.send("until", "go", message_id="cut-off")
    eventually(lambda: "running" in [worker["state"] for worker in on_disk.pool()["workers"]], "it runs")
    running = next(worker for worker in on_disk.pool()["workers"] if worker["state"] == "running")

    on_disk.disk.freeze()
    assert on_disk.status()["state"] == "running", "the master answers while it has nothing to write"
    os.kill(running["pid"], signal.SIGKILL)
    eventually(on_disk.waits_for_the_disk, "the master waits with its exit record")
    on_disk.disk.thaw()

    record = on_disk.exit(cause="killed")
    assert (record["message_id"], record["run"]) == ("cut-off", "in_doubt")
    (on_disk.marks / "go").touch()
    eventually(lambda: on_disk.marked("done") == ["cut-off"], "it runs again, declared")
    assert len(on_disk.exits()) == 1
    assert on_disk.stop() == 0


def test_a_stop_that_was_asked_for_on_a_frozen_disk_is_done_once_the_disk_goes_on(on_disk: OnDisk) -> None:
    on_disk.disk.freeze()
    assert on_disk.ask("stop")["stopping"]
    on_disk.disk.thaw()
    assert on_disk.wait() == 0
    assert {record["cause"] for record in on_disk.exits()} == {"clean_stop"}
