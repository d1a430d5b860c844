"""A disk that is full in mid-work: nothing is consumed, nothing is lost, and all is done once when it heals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.disks import SmallDisk, small_disk
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

MESSAGES = 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def site(tmp_path: Path, disk: SmallDisk) -> Iterator[Site]:
    """State on the small disk; log, marks and sockets elsewhere."""
    with make_site(tmp_path) as site:
        text = (
            site.config.read_text().replace('"state"', '"disk/state"').replace("max_attempts = 1", "max_attempts = 3")
        )
        site.config.write_text(text.replace("[broker]", '[log]\nfile = "log"\n[broker]'))
        os.mkfifo(tmp_path / "gate")
        yield site


def test_a_disk_that_is_full_in_mid_work_costs_no_message_and_no_exit_record(site: Site, disk: SmallDisk) -> None:
    site.ok("start")
    first = "wait gate\n"
    site.ok("publish", "mail", "--id-prefix", "m", stdin=first + "hello\n" * (MESSAGES - 1))
    site.wait_until_running("m0")

    disk.fill()
    (site.folder / "gate").write_text("go")
    eventually(lambda: pool(site)["state"] == "degraded", "the pool says that nothing is consumed")

    assert "ledger.db: the disk is full" in pool(site)["why"]
    assert "free some space" in pool(site)["why"]
    assert site.runs() == ["m0 1 1"], "nothing is started whose end cannot be recorded"
    refused = site.cli("publish", "mail", stdin="more\n")
    assert (refused.returncode, "the disk is full" in refused.stderr) == (1, True)

    os.kill(pool(site)["workers"][0]["pid"], signal.SIGSEGV)
    eventually(lambda: pool(site)["workers"][0]["restarts"] == 1, "the worker is replaced all the same")
    assert [row["count"] for row in site.status()["exits"]] == [1], "counted, although it cannot be written"
    assert site.exits() == []

    disk.free()
    site.wait_for_counter("done", MESSAGES)
    assert sorted(site.runs()) == sorted(f"m{number} 1 1" for number in range(MESSAGES))
    (record,) = eventually(site.exits, "what had to wait is written")
    assert record["cause"] == "crash"
    eventually(lambda: pool(site)["state"] == "ok", "the pool is well")
    assert site.log_path
    log = (site.folder / "log").read_text()
    for told in ("ledger.failed", "exit records cannot be written", "exit records are written again", "pool.recovered"):
        assert told in log
    assert "Traceback" not in log


def test_a_daemon_killed_on_a_full_disk_loses_nothing_and_repeats_nothing(site: Site, disk: SmallDisk) -> None:
    site.ok("start")
    site.ok("publish", "mail", "--id-prefix", "m", stdin="wait gate\n" + "hello\n" * 5)
    site.wait_until_running("m0")
    disk.fill()
    (site.folder / "gate").write_text("go")
    eventually(lambda: pool(site)["state"] == "degraded", "the pool says that nothing is consumed")

    os.kill(site.status()["pid"], signal.SIGKILL)
    eventually(lambda: not site.processes(), "the daemon's children have gone with it")
    disk.free()
    site.ok("start")
    site.wait_for_counter("done", 6)
    assert sorted(site.runs()) == sorted(f"m{number} 1 1" for number in range(6))


def test_a_log_on_a_full_disk_stops_no_process_and_tells_what_it_lost(site: Site, disk: SmallDisk) -> None:
    site.config.write_text(
        site.config.read_text()
        .replace("max_attempts = 3", "max_attempts = 1")
        .replace('"disk/state"', '"state"')
        .replace('file = "log"', 'file = "disk/log"')
    )
    site.ok("start")
    disk.fill()

    site.ok("publish", "mail", "--id-prefix", "m", stdin="fail\n" * 10 + "hello\n")
    site.wait_for_counter("dead", 10)
    site.wait_for_counter("done", 1)
    disk.free()
    site.ok("publish", "mail", "--id-prefix", "n", stdin="fail\n")
    site.wait_for_counter("dead", 11)

    site.ok("stop")
    log = (disk.path / "log").read_text()
    assert "log line(s) before this one could not be written: No space left on device" in log
    assert "daemon.stopped" in log


def pool(site: Site) -> dict[str, Any]:
    """The pool's status."""
    found: dict[str, Any] = site.status()["pools"]["mail"]
    return found
