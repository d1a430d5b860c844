"""kill -9 of the master, at rest and in mid-message: the next daemon declares every death before it starts anything."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from supervisor.system.posix import executes
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

ONE = 'workers = 1\ntimeout = "60s"\nmax_timeout = "60s"\nmax_attempts = 3\nretry_delays = ["100ms"]\n'


def pids(under_test: Daemon) -> dict[str, int]:
    """The pids of a pool's three children."""
    pool = under_test.pool()
    workers = {"worker": pool["workers"][0]["pid"]}
    return {kind: pool[kind]["pid"] for kind in ("forkserver", "consumer")} | workers


def test_each_child_that_died_with_the_master_is_declared_lost_once(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        former = pids(under_test)
        under_test.kill()
        eventually(lambda: not under_test.processes(), "its children are gone, too")
        under_test.start()
        lost = under_test.exits(cause="lost")
        assert {(record["kind"], record["pid"]) for record in lost} == set(former.items())
        assert all(record["status"] is None and record["signal"] is None for record in lost)
        assert under_test.stop() == 0
        under_test.start()
        assert len(under_test.exits(cause="lost")) == 3, "and never again"
        generations = [record["generation"] for record in under_test.exits()]
        assert len(set(generations)) == len(generations) == 6


def test_a_worker_finishes_its_message_without_a_master_and_it_is_not_run_again(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "go", message_id="long")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        worker = under_test.worker()["pid"]
        under_test.kill()
        (under_test.marks / "go").touch()
        eventually(lambda: not executes(worker), "the worker has finished and left")
        under_test.start()
        assert under_test.exit(cause="lost", kind="worker")["run"] in ("idle", "finished")
        under_test.send("nothing", message_id="after")
        eventually(lambda: under_test.marked("done") == ["long", "after"], "work goes on")
        assert [line.split()[0] for line in under_test.marked("begun")] == ["long", "after"]


def test_a_slot_is_left_to_a_former_worker_until_it_has_finished(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "go", message_id="long")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        worker = under_test.worker()["pid"]
        under_test.kill()
        under_test.start()
        assert executes(worker)
        assert under_test.worker()["pid"] is None, "no other process has its slot"
        (under_test.marks / "go").touch()
        assert under_test.exit(cause="lost", kind="worker")["pid"] == worker
        eventually(lambda: under_test.worker()["state"] == "idle", "the slot has a new worker")
        assert under_test.marked("done") == ["long"]
        assert len(under_test.marked("begun")) == 1
        assert "could not be forked" not in under_test.log_path.read_text(), "no child was even ordered for it"


def test_a_former_worker_that_does_not_finish_in_time_is_ended(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE, 'stop_timeout = "1s"') as under_test:
        under_test.send("until", "go", message_id="stuck")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        worker = under_test.worker()["pid"]
        under_test.kill()
        under_test.start()
        record = under_test.exit(cause="lost", kind="worker")
        assert (record["pid"], record["message_id"], record["run"]) == (worker, "stuck", "in_doubt")
        assert not executes(worker)
        eventually(lambda: len(under_test.marked("begun")) == 2, "its message runs again")
        assert under_test.marked("begun")[1].split()[1] == "2", "as a second attempt"
        (under_test.marks / "go").touch()


def test_a_worker_and_its_master_killed_together_leave_a_message_in_doubt(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "go", message_id="doubt")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        worker = under_test.worker()["pid"]
        under_test.kill()
        os.kill(worker, signal.SIGKILL)
        (under_test.marks / "go").touch()
        under_test.start()
        record = under_test.exit(cause="lost", kind="worker")
        assert (record["message_id"], record["attempt"], record["run"]) == ("doubt", 1, "in_doubt")
        eventually(lambda: under_test.marked("done"), "its message runs again")
        assert [line.split()[1] for line in under_test.marked("begun")] == ["1", "2"]


def test_a_group_left_by_a_worker_that_died_with_its_master_ends_before_anything_starts(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("spawn_group_and_wait")
        group = int(eventually(lambda: under_test.marked("spawned"), "the handler has started a group")[0])
        worker = under_test.worker()["pid"]
        under_test.kill()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not executes(worker), "the worker is dead")
        assert executes(group)
        under_test.start()
        assert not executes(group)
