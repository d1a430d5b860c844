"""A stop and a worker that no signal ends: its system call waits for a disk that is frozen (state D)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from supervisor.system.clock import monotonic_s
from supervisor.system.posix import executes
from tests.support.daemon import Daemon, daemon
from tests.support.disks import FreezableDisk, freezable_disk
from tests.support.waiting import eventually

LIMITS = 'timeout = "300ms"\nkill_grace = "200ms"\ntimeout_header = "limit"\nmax_timeout = "60s"\n'
SETTINGS = f'workers = 2\n{LIMITS}max_attempts = 3\nretry_delays = ["100ms"]'


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FreezableDisk]:
    """Not the one that the daemon's own state is on."""
    with freezable_disk(tmp_path) as disk:
        yield disk


@contextmanager
def stuck(tmp_path: Path, disk: FreezableDisk, settings: str, stop_timeout: str) -> Iterator[tuple[Daemon, int]]:
    """A daemon with a worker that waits for the disk with a message, and its pid."""
    with daemon(tmp_path, settings, f'stop_timeout = "{stop_timeout}"') as under_test:
        try:
            disk.freeze()
            under_test.send("write_to", str(disk.path / "file"), message_id="stuck")
            eventually(lambda: begun(under_test, "stuck"), "it has begun")
            yield under_test, begun(under_test, "stuck")[0]
        finally:
            disk.thaw()


def begun(under_test: Daemon, message_id: str) -> list[int]:
    """The pids of the workers that have begun this message."""
    lines = [line.split() for line in under_test.marked("begun")]
    return [int(pid) for name, _attempt, pid in lines if name == message_id]


def send_slow(under_test: Daemon) -> None:
    """A message that runs until `go` is marked, and may take its time."""
    body = json.dumps({"do": "until", "arguments": ["go"]}).encode()
    slow = Publication("", "email", Properties(message_id="slow", headers={"limit": "1m"}), body)
    with open_admin(BrokerConfig(), str(under_test.state_dir)) as admin:
        assert admin.publish([slow], 10, lambda total: None).sent == 1


def left_behind(under_test: Daemon) -> list[str]:
    """What the log says of workers that a stop has left behind."""
    lines = [line["message"] for line in under_test.events("child.unkillable")]
    return [line for line in lines if "leaves it behind" in line]


def test_a_stop_goes_on_without_a_worker_that_was_killed_and_does_not_end(tmp_path: Path, disk: FreezableDisk) -> None:
    with stuck(tmp_path, disk, SETTINGS, "10m") as (under_test, pid):
        eventually(under_test.has("child.unkillable"), "its time limit has not ended it")
        asked_s = monotonic_s()
        assert under_test.stop() == 0
        assert monotonic_s() < asked_s + 25, "far less than stop_timeout"
        (line,) = left_behind(under_test)
        assert f"(pid {pid})" in line
        assert "its message stuck stays in doubt" in line
        (stopped,) = under_test.events("daemon.stopped")
        assert stopped["pools"]["email"]["cut_off"] == ["stuck"]
        assert executes(pid)

        under_test.start()
        under_test.send("nothing")
        eventually(lambda: "nothing" in under_test.marked("done"), "the next daemon works")
        assert begun(under_test, "stuck") == [pid], "and does not run the message beside the process"

        disk.thaw()
        eventually(lambda: "stuck" in under_test.marked("done"), "once it has ended, its message runs again")
        assert under_test.exit(pid=pid)["message_id"] == "stuck"


def test_a_stop_kills_at_its_timeout_and_goes_on_when_that_does_not_end_it(tmp_path: Path, disk: FreezableDisk) -> None:
    with stuck(tmp_path, disk, "workers = 1", "1s") as (under_test, _pid):
        assert under_test.stop() == 0
        assert len(left_behind(under_test)) == 1


def test_a_worker_that_cannot_be_ended_takes_no_time_from_the_others(tmp_path: Path, disk: FreezableDisk) -> None:
    with stuck(tmp_path, disk, SETTINGS, "10m") as (under_test, pid):
        eventually(under_test.has("child.unkillable"), "its time limit has not ended it")
        send_slow(under_test)
        eventually(lambda: begun(under_test, "slow"), "another message runs")
        asked_s = monotonic_s()
        under_test.ask("stop")
        eventually(lambda: monotonic_s() > asked_s + 8, "longer than a worker has to leave")
        assert executes(begun(under_test, "slow")[0])
        assert "slow" not in under_test.marked("done")
        (under_test.marks / "go").touch()
        assert under_test.wait() == 0
        assert "slow" in under_test.marked("done")
        assert under_test.events("daemon.stopped")[0]["pools"]["email"]["cut_off"] == ["stuck"]
        assert executes(pid)
