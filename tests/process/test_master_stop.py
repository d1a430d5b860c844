"""Stopping: handlers finish, what was not started goes back, a second request kills, nothing stays behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.control.client import ControlClient
from supervisor.master.stop.phases import LEAVE_S
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

ONE = 'workers = 1\ntimeout = "60s"\nmax_timeout = "60s"\nmax_attempts = 3\nretry_delays = ["100ms"]\n'


def ready_messages(under_test: Daemon) -> int:
    """How many messages are in the queue."""
    with open_admin(BrokerConfig(), str(under_test.state_dir)) as admin:
        depth = admin.depth("email")
    return depth.ready if depth else 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_running_handler_finishes_and_the_rest_goes_back(tmp_path: Path, signum: int) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "go", message_id="first")
        eventually(lambda: under_test.marked("begun"), "the first message runs")
        for number in range(3):
            under_test.send("nothing", message_id=f"later-{number}")
        assert under_test.process is not None
        under_test.process.send_signal(signum)
        eventually(under_test.has("daemon.stopping"), "the stop has begun")
        (under_test.marks / "go").touch()
        assert under_test.wait() == 0
        assert under_test.marked("done") == ["first"]
        assert ready_messages(under_test) == 3
        assert under_test.exit(kind="worker")["cause"] == "clean_stop"
        assert under_test.processes() == []


def test_a_second_signal_kills_and_the_message_follows_on_crash(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "never", message_id="stuck")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        assert under_test.process is not None
        under_test.process.terminate()
        eventually(under_test.has("daemon.stopping"), "the stop has begun")
        assert under_test.stop() == 0
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["run"], record["requested_by"]) == ("stop_killed", "in_doubt", "SIGTERM")
        (stopped,) = under_test.events("daemon.stopped")
        assert stopped["pools"]["email"]["cut_off"] == ["stuck"]
        under_test.start()
        eventually(lambda: len(under_test.marked("begun")) == 2, "it runs again")
        assert under_test.marked("begun")[1].split()[1] == "2"
        (under_test.marks / "never").touch()


def test_stop_through_the_control_socket_answers_with_the_drain_report(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "go", message_id="first")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        pid = under_test.status()["pid"]
        with ControlClient(under_test.runtime_dir, timeout_s=30.0) as client:
            assert client.ask("stop", wait=True) == {"stopping": True, "pid": pid}
            (under_test.marks / "go").touch()
            report = client.next_answer()
        assert report["pools"]["email"]["cut_off"] == []
        assert report["forced"] is False
        assert report["took_s"] > 0
        assert under_test.wait() == 0
        assert under_test.exit(kind="worker")["requested_by"] == "preforkd stop"


def test_a_handler_that_has_had_the_stop_timeout_gets_no_more_time(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "go", message_id="slow")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        with ControlClient(under_test.runtime_dir, timeout_s=30.0) as client:
            client.ask("stop", timeout_s=0.2, wait=True)
            report = client.next_answer()
        assert (report["forced"], report["pools"]["email"]["cut_off"]) == (True, ["slow"])
        assert under_test.wait() == 0
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["run"], record["message_id"]) == ("stop_killed", "in_doubt", "slow")
        assert report["took_s"] < LEAVE_S, "it was given the time that idle workers have to leave"


def test_a_stop_during_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    with daemon(tmp_path, "workers = 4", start=False) as under_test:
        under_test.start(ready=False)
        eventually(under_test.has("daemon.started"), "the daemon has begun")
        assert under_test.stop() == 0
        assert under_test.processes() == []
        assert not (under_test.runtime_dir / "preforkd.pid").exists()


def test_a_stopped_daemon_leaves_no_socket_and_no_pid_file(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        present = {path.name for path in under_test.runtime_dir.iterdir()}
        assert {"preforkd.pid", "control.sock", "email.sock"} <= present
        assert (under_test.runtime_dir / "email.sock").stat().st_mode & 0o777 == 0o600
        assert under_test.stop() == 0
        (kept,) = under_test.runtime_dir.iterdir()
        assert (kept.suffix, kept.stat().st_mode & 0o777) == (".ledger", 0o600), "what tells a ledger that was set back"


def test_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        first, pid = under_test.process, under_test.status()["pid"]
        under_test.start(ready=False)
        assert under_test.wait() == 1
        assert f"in use by pid {pid}" in under_test.log_path.read_text()
        under_test.process = first
        assert under_test.status()["pid"] == pid
        assert under_test.stop() == 0


def test_a_stopped_worker_process_does_not_stop_the_stop(tmp_path: Path) -> None:
    """A worker under SIGSTOP cannot leave; it is killed once its time is over."""
    with daemon(tmp_path, ONE, 'stop_timeout = "1s"') as under_test:
        os.kill(under_test.worker()["pid"], signal.SIGSTOP)
        assert under_test.stop() == 0
        assert under_test.exit(kind="worker")["cause"] == "stop_killed"


@pytest.mark.parametrize("do", ["hang_in_c", "ignore_everything"])
def test_a_handler_that_ignores_everything_ends_with_the_stop_timeout(tmp_path: Path, do: str) -> None:
    with daemon(tmp_path, ONE, 'stop_timeout = "1s"') as under_test:
        under_test.send(do)
        eventually(lambda: under_test.marked("begun"), "the message runs")
        assert under_test.stop() == 0
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["run"], record["message_id"]) == ("stop_killed", "in_doubt", do)
        assert under_test.processes() == []


def test_stop_now_waits_for_no_handler(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "never", message_id="stuck")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        with ControlClient(under_test.runtime_dir, timeout_s=30.0) as client:
            client.ask("stop", now=True, wait=True)
            report = client.next_answer()
        assert (report["forced"], report["pools"]["email"]["cut_off"]) == (True, ["stuck"])
        assert under_test.wait() == 0
        assert under_test.exit(kind="worker")["cause"] == "stop_killed"
        assert under_test.processes() == []


def test_a_stop_of_a_paused_pool_lets_its_handlers_finish(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "go", message_id="first")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        under_test.ask("pause", pool="email")
        assert under_test.process is not None
        under_test.process.terminate()
        eventually(under_test.has("daemon.stopping"), "the stop has begun")
        (under_test.marks / "go").touch()
        assert under_test.wait() == 0
        assert under_test.marked("done") == ["first"]
