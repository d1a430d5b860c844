"""What the master watches: children that boot, hang, stand still or keep dying, and what users see of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from supervisor.errors import ControlError
from supervisor.scoreboard.slot import Slot
from supervisor.system.clock import monotonic_s
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

ONE = 'workers = 1\ntimeout = "60s"\nmax_timeout = "60s"\n'
HOLDING = "restart_intensity = [2, '60s']\nrestart_backoff = ['10ms', '20ms']\n"


def kill_workers(under_test: Daemon, slot: int, times: int) -> None:
    """Kill the process that has this slot, so many times."""
    for number in range(1, times + 1):
        os.kill(eventually(lambda: under_test.worker(slot)["pid"], "there is a worker"), signal.SIGKILL)
        eventually(lambda n=number: len(under_test.exits(slot=slot)) == n, "its death is on record")  # type: ignore[misc]


def test_a_handler_that_cannot_be_imported_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as under_test:
        text = under_test.config_path.read_text().replace("daemon_handlers:run", "no_such_module:run")
        under_test.config_path.write_text(text)
        under_test.start(ready=False)
        assert under_test.wait() == 78
        assert "no_such_module" in under_test.log_path.read_text().splitlines()[-1]
        assert under_test.exit(kind="forkserver")["cause"] == "boot_failed"
        assert under_test.processes() == []


def test_a_child_that_keeps_dying_is_held_and_its_pool_degraded(tmp_path: Path) -> None:
    settings = "workers = 2\nhold_retry = '1h'\n" + HOLDING
    with daemon(tmp_path, settings) as under_test:
        kill_workers(under_test, 0, 3)
        eventually(lambda: under_test.pool()["state"] == "degraded", "the pool is degraded")
        held, working = under_test.pool()["workers"]
        assert (held["state"], working["state"]) == ("held", "idle")
        assert held["restart_in_s"] > 3000
        assert "killed (SIGKILL)" in under_test.pool()["why"]
        assert under_test.exits()[-1]["restart_in_s"] == 3600.0
        assert under_test.events("pool.degraded")
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "the other worker goes on")


def test_a_held_pool_is_tried_again_and_recovers(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE + "hold_retry = '300ms'\n" + HOLDING) as under_test:
        kill_workers(under_test, 0, 3)
        eventually(under_test.has("pool.held"), "the only worker is held, and with it the pool")
        eventually(under_test.has("pool.recovered"), "the pool has recovered")
        assert under_test.pool()["state"] == "ok"


@pytest.mark.parametrize("kind", ["forkserver", "consumer"])
def test_who_stands_still_is_ended_and_replaced(tmp_path: Path, kind: str) -> None:
    with daemon(tmp_path, ONE, start=False) as under_test:
        under_test.start(stale_s=3.0)
        stopped = under_test.pool()[kind]["pid"]
        os.kill(stopped, signal.SIGSTOP)
        record = under_test.exit(kind=kind)
        assert (record["pid"], record["cause"]) == (stopped, "timeout")
        assert record["requested_by"] == "no progress for 3 s"
        eventually(lambda: under_test.pool()[kind]["state"] in ("ready", "consuming"), "it was replaced")
        assert under_test.exits(kind="worker") == []


def test_a_master_that_was_suspended_gives_all_children_a_grace_first(tmp_path: Path) -> None:
    """The worker's timer is blocked, the master sleeps past the deadline: the run may still end within the grace."""
    settings = 'workers = 1\ntimeout = "1s"\nmax_timeout = "60s"\nkill_grace = "2s"\n'
    with daemon(tmp_path, settings) as under_test:
        under_test.send("until_untimed", "go", message_id="late")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        assert under_test.process is not None
        deadline_s = running_deadline(under_test)
        os.kill(under_test.process.pid, signal.SIGSTOP)
        eventually(lambda: monotonic_s() > deadline_s + 4.5, "the master is far too late", 30.0)
        os.kill(under_test.process.pid, signal.SIGCONT)
        assert under_test.worker()["state"] == "running"
        (under_test.marks / "go").touch()
        eventually(lambda: under_test.marked("done") == ["late"], "the run was forgiven")
        assert under_test.worker()["pid"] is not None
        dump = under_test.state_dir / "pools" / "email" / "stacks" / "0.txt"
        assert dump.stat().st_size == 0, "no process was even asked for its stacks"
        assert under_test.exits() == []


def test_an_idle_worker_is_never_judged_by_the_run_before(tmp_path: Path) -> None:
    settings = 'workers = 1\ntimeout = "500ms"\nmax_timeout = "60s"\nkill_grace = "100ms"\n'
    with daemon(tmp_path, settings) as under_test:
        pid = under_test.worker()["pid"]
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "the message is done")
        looks_until_s = monotonic_s() + 2.0
        eventually(lambda: monotonic_s() > looks_until_s, "several looks have passed")
        assert under_test.worker()["pid"] == pid


def test_cut_connection_reaches_the_consumer_and_an_unknown_pool_is_named(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        under_test.ask("cut_connection", pool="email")
        eventually(under_test.has("consumer.disconnected"), "the connection was cut")
        with pytest.raises(ControlError, match="there is no pool 'mail'; there are email"):
            under_test.ask("cut_connection", pool="mail")


def running_deadline(under_test: Daemon) -> float:
    """CLOCK_MONOTONIC of the present run's deadline, as its slot says."""
    running = Slot(under_test.state_dir / "pools" / "email" / "slots" / "0.slot").running()
    assert running is not None
    return running.deadline_s
