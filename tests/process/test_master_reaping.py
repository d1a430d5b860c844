"""Death and what follows: everything a worker leaves behind ends before its message may run again (I3, I5, I6)."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.system.posix import executes
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

_NO_PROCESS = 2**22 + 1  # above the largest pid there can be
ONE = 'workers = 1\ntimeout = "60s"\nmax_timeout = "60s"\nmax_attempts = 2\nretry_delays = ["100ms"]\n'


def spawned(under_test: Daemon) -> int:
    """The pid of the first process that a handler has started."""
    return int(eventually(lambda: under_test.marked("spawned"), "the handler has started a process")[0])


@pytest.mark.parametrize("deed", ["daemonize_and_die", "spawn_group_and_die"])
def test_what_a_dead_worker_left_ends_before_its_message_runs_again(tmp_path: Path, deed: str) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send(deed)
        first = spawned(under_test)
        eventually(lambda: len(under_test.marked("begun")) == 2, "the message runs again")
        assert not executes(first)
        records = eventually(lambda: under_test.exits(status=9), "the first death is on record")
        assert records[0]["attempt"] == 1


def test_the_exit_is_declared_before_the_message_runs_again(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("leave_hard", 9)
        eventually(lambda: len(under_test.events("worker.exited", status=9)) == 2, "both attempts have ended")
        first, second = (record["pid"] for record in under_test.exits(status=9))
        lines = [line for line in under_test.log_path.read_text().splitlines() if '"worker.' in line]
        assert next(i for i, line in enumerate(lines) if f'"pid": {first}' in line and "exited" in line) < next(
            i for i, line in enumerate(lines) if f'"pid": {second}' in line and "exited" in line
        )
        assert [line.split()[:2] for line in under_test.marked("begun")] == [["leave_hard", "1"], ["leave_hard", "2"]]


def test_an_orphaned_descendant_is_named_in_the_log_and_ended_while_its_worker_lives(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("daemonize")
        orphan = spawned(under_test)
        eventually(lambda: not executes(orphan), "the orphaned descendant was ended")
        (line,) = eventually(lambda: under_test.events("stranger.ended", pid=orphan), "it was named")
        assert line["command"] == "sleep 1000"
        assert under_test.exits() == [], "its worker is not to blame"


def test_a_forkserver_that_dies_leaves_no_descendant_its_spare_ends_with_it(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        for _ in range(3):
            eventually(lambda: under_test.pool()["forkserver"]["state"] == "ready", "there is a forkserver")
            forkserver = under_test.pool()["forkserver"]["pid"]
            os.kill(eventually(lambda: under_test.worker()["pid"], "there is a worker"), signal.SIGKILL)
            eventually(lambda pid=forkserver: has_standby(pid), "and it has a standby")  # type: ignore[misc]
            os.kill(forkserver, signal.SIGKILL)
            under_test.exit(pid=forkserver)
        eventually(lambda: under_test.worker()["state"] == "idle", "the worker is there")
        assert under_test.events("stranger.ended") == []


def has_standby(forkserver: int) -> bool:
    """Whether it has forked, and the process that it has forked has."""
    with suppress(OSError):
        children = Path(f"/proc/{forkserver}/task/{forkserver}/children").read_text().split()
        return any(Path(f"/proc/{child}/task/{child}/children").read_text() for child in children)
    return False


def test_a_child_that_the_master_had_before_is_let_be(tmp_path: Path) -> None:
    """`sh -c 'sleep 1000 & exec preforkd run'`: the shell's child becomes ours, and is none of our business."""
    with daemon(tmp_path, ONE, start=False) as under_test:
        under_test.start(prefix=f"sleep 1000 & echo $! > {under_test.marks}/spawned; exec ")
        bystander = spawned(under_test)
        os.kill(under_test.worker()["pid"], signal.SIGKILL)
        under_test.exit(kind="worker")
        eventually(lambda: under_test.worker()["state"] == "idle", "the worker was replaced")
        assert executes(bystander)


def test_every_death_in_a_storm_has_one_record_and_every_child_comes_back(tmp_path: Path) -> None:
    settings = "workers = 8\nrestart_intensity = [1000, '60s']\nrestart_backoff = ['10ms', '50ms']\n"
    with daemon(tmp_path, settings) as under_test:
        killed = set()
        for _ in range(5):
            eventually(lambda: all(w["state"] == "idle" for w in under_test.pool()["workers"]), "all are idle")
            for worker in under_test.pool()["workers"]:
                killed.add(worker["pid"])
                os.kill(worker["pid"], signal.SIGKILL)
            eventually(lambda: len(under_test.exits(cause="killed")) == len(killed), "all deaths are on record")
        assert {record["pid"] for record in under_test.exits()} == killed
        assert len(killed) == 40


def test_a_worker_killed_in_its_boot_is_on_record_too(tmp_path: Path) -> None:
    """Forkserver and workers die at any moment of a fork; every worker that had its slot has one record."""
    settings = "workers = 4\nrestart_intensity = [1000, '60s']\nrestart_backoff = ['10ms', '20ms']\n"
    with daemon(tmp_path, settings) as under_test:
        for _ in range(10):
            pool = under_test.pool()
            for pid in (pool["forkserver"]["pid"], *(worker["pid"] for worker in pool["workers"])):
                with suppress(ProcessLookupError):  # some are dying already
                    os.kill(pid or _NO_PROCESS, signal.SIGKILL)
            eventually(lambda: under_test.pool()["forkserver"]["state"] == "ready", "there is a new forkserver")
        eventually(lambda: all(w["state"] == "idle" for w in under_test.pool()["workers"]), "all workers are back")
        generations = [record["generation"] for record in under_test.exits()]
        assert len(set(generations)) == len(generations)
        assert under_test.stop() == 0
        assert under_test.processes() == []
