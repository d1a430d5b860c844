"""Every row of the exits table, made by a real process under a real daemon: record, log, tally and what follows.

`out_of_memory` is in test_daemon_limits.py.

Incident 1: an exit with status 0 that was not asked for is a class of its own, logged like every other.
Incident 4: every reason for an exit is told apart, and an exit in mid-message names the message.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.support.daemon import daemon
from tests.support.waiting import eventually

QUICK = 'workers = 1\nmax_attempts = 1\ntimeout = "1s"\nmax_timeout = "60s"\nkill_grace = "500ms"\n'
PATIENT = 'workers = 1\nmax_attempts = 1\ntimeout = "60s"\nmax_timeout = "60s"\n'

FIELDS = {
    *("event", "pool", "slot", "pid", "generation", "cause", "status", "signal", "core_dumped", "requested_by"),
    *("uptime_s", "messages", "message_id", "attempt", "elapsed_s", "run", "max_rss_bytes", "cpu_user_s"),
    *("cpu_system_s", "oom_evidence", "stack", "restart_in_s", "at", "kind"),
    *("limit_s", "limit_source", "unkillable"),
}

IN_MID_MESSAGE = [
    ("leave", (0,), {"cause": "unexpected_exit", "status": 0, "signal": None}),
    ("leave_hard", (0,), {"cause": "unexpected_exit", "status": 0, "signal": None}),
    ("become", ("true",), {"cause": "unexpected_exit", "status": 0, "signal": None}),
    ("leave", (3,), {"cause": "crash", "status": 3, "signal": None}),
    ("leave_hard", (70,), {"cause": "crash", "status": 70, "signal": None}),
    ("leave_hard", (75,), {"cause": "crash", "status": 75, "signal": None}),
    ("leave_hard", (78,), {"cause": "crash", "status": 78, "signal": None}),
    ("leave_hard", (124,), {"cause": "crash", "status": 124, "signal": None}),
    ("kill", (signal.SIGSEGV,), {"cause": "crash", "status": None, "signal": "SIGSEGV"}),
    ("kill", (signal.SIGABRT,), {"cause": "crash", "status": None, "signal": "SIGABRT"}),
    ("kill", (signal.SIGKILL,), {"cause": "killed", "status": None, "signal": "SIGKILL"}),
]


def test_a_worker_that_leaves_in_mid_message_is_on_record_with_the_message(tmp_path: Path) -> None:
    """One daemon, one message after another: each ends its worker in another way."""
    with daemon(
        tmp_path, PATIENT + "restart_intensity = [100, '60s']\nrestart_backoff = ['10ms', '20ms']"
    ) as under_test:
        for number, (deed, arguments, expected) in enumerate(IN_MID_MESSAGE):
            message_id = f"{number}-{deed}"
            under_test.send(deed, *arguments, message_id=message_id)
            record = under_test.exit(message_id=message_id)
            assert expected.items() <= record.items(), record
            assert (record["run"], record["attempt"], record["kind"]) == ("in_doubt", 1, "worker")
            assert set(record) == FIELDS
            eventually(partial(under_test.events, "worker.exited", message_id=message_id), "the log has it, too")
        assert sum(row["count"] for row in under_test.status()["exits"]) == len(IN_MID_MESSAGE)


def test_a_stop_that_was_asked_for_is_clean_and_names_who_asked(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "the message is done")
        assert under_test.stop() == 0
        for kind in ("worker", "forkserver", "consumer"):
            record = under_test.exit(kind=kind)
            assert (record["cause"], record["status"], record["requested_by"]) == ("clean_stop", 0, "SIGTERM")
            assert record["restart_in_s"] is None
        assert under_test.processes() == []


def test_a_worker_asked_from_outside_leaves_cleanly_and_is_replaced(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        os.kill(under_test.worker()["pid"], signal.SIGTERM)
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["requested_by"], record["restart_in_s"]) == ("clean_stop", "outside", 0.0)
        eventually(lambda: under_test.worker()["state"] == "idle", "it was replaced")


def test_a_worker_at_its_limit_is_recycled_at_once(tmp_path: Path) -> None:
    with daemon(tmp_path, "workers = 1\nmax_messages = 1") as under_test:
        under_test.send("nothing")
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["status"], record["messages"]) == ("recycled", 75, 1)
        assert record["restart_in_s"] == 0.0


def test_a_worker_that_fails_what_the_others_do_well_is_recycled_once_and_told(tmp_path: Path) -> None:
    settings = 'workers = 3\nmax_attempts = 100\nretry_delays = ["100ms"]'
    with daemon(tmp_path, settings) as under_test:
        under_test.send("poison")
        sent = 0
        while not under_test.events("worker.failing"):
            assert sent < 500, "no worker was found to fail"
            for _ in range(20):
                sent += 1
                under_test.send("unless_poisoned", message_id=f"m{sent}")
            eventually(
                lambda all=sent + 1: (
                    under_test.events("worker.failing") or under_test.pool()["counters"]["done"] == all
                ),
                "a worker is told, or all messages are done",
            )
        record = under_test.exit(kind="worker", cause="recycled", status=75)
        eventually(lambda: under_test.pool()["counters"]["done"] == sent + 1, "all messages are done")
        told = under_test.events("worker.failing", slot=record["slot"], generation=record["generation"])
        assert told == under_test.events("worker.failing")
        assert len(told) == 1
        assert record["restart_in_s"] == 0.0
        assert len(under_test.exits(kind="worker")) == 1


def test_messages_that_fail_everywhere_replace_no_worker(tmp_path: Path) -> None:
    with daemon(tmp_path, "workers = 3\nmax_attempts = 1") as under_test:
        for number in range(30):
            under_test.send("fail", message_id=f"m{number}")
        eventually(lambda: under_test.pool()["counters"]["dead"] == 30, "all messages are dead-lettered")
        assert not under_test.exits(kind="worker")
        assert not under_test.events("worker.failing")


def test_the_workers_own_timer_ends_it_with_124_and_its_stack(tmp_path: Path) -> None:
    with daemon(tmp_path, QUICK) as under_test:
        under_test.send("sleep", 1000)
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["status"], record["run"]) == ("timeout", 124, "in_doubt")
        assert "daemon_handlers.py" in record["stack"]
        assert record["elapsed_s"] >= 1.0
        assert (record["limit_s"], record["limit_source"]) == (1.0, "pool")


@pytest.mark.parametrize("deed", ["hang_in_c", "ignore_the_timer"])
def test_a_worker_that_cannot_leave_is_killed_with_its_stack_dumped(tmp_path: Path, deed: str) -> None:
    with daemon(tmp_path, QUICK) as under_test:
        under_test.send(deed)
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["signal"], record["requested_by"]) == ("timeout", "SIGKILL", "time limit")
        assert "daemon_handlers.py" in record["stack"]
        assert 1.5 <= record["elapsed_s"] < 10.0
        assert record["restart_in_s"] == 0.0


def test_a_worker_that_grows_too_much_in_mid_message_is_killed(tmp_path: Path) -> None:
    with daemon(tmp_path, PATIENT + 'max_memory = "64MiB"\nkill_memory = "96MiB"') as under_test:
        under_test.send("eat", 160)
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["signal"], record["requested_by"]) == ("memory_limit", "SIGKILL", "kill_memory")
        assert record["max_rss_bytes"] > 96 << 20


def test_a_message_that_outlasts_the_stop_timeout_is_cut_off_and_named(tmp_path: Path) -> None:
    with daemon(tmp_path, PATIENT, 'stop_timeout = "500ms"') as under_test:
        under_test.send("sleep", 1000, message_id="long")
        eventually(lambda: under_test.worker()["state"] == "running", "the message runs")
        assert under_test.stop() == 0
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["message_id"], record["run"]) == ("stop_killed", "long", "in_doubt")
        (stopped,) = under_test.events("daemon.stopped")
        assert stopped["forced"]
        assert stopped["pools"]["email"]["cut_off"] == ["long"]


def test_an_init_that_fails_in_the_only_pool_ends_the_start_with_1_as_it_may_heal(tmp_path: Path) -> None:
    with daemon(tmp_path, 'workers = 1\ninit = "daemon_handlers:refuse_to_boot"', start=False) as under_test:
        under_test.start(ready=False)
        assert under_test.wait() == 1
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["status"]) == ("boot_failed", 78)
        assert "no database here" in under_test.log_path.read_text()
        assert under_test.processes() == []


@pytest.mark.parametrize("kind", ["forkserver", "consumer"])
def test_a_killed_forkserver_or_consumer_is_on_record_and_replaced(tmp_path: Path, kind: str) -> None:
    with daemon(tmp_path) as under_test:
        worker_pid = under_test.worker()["pid"]
        os.kill(under_test.pool()[kind]["pid"], signal.SIGKILL)
        record = under_test.exit(kind=kind)
        assert (record["cause"], record["signal"], record["slot"]) == ("killed", "SIGKILL", None)
        eventually(lambda: under_test.pool()[kind]["state"] in ("ready", "consuming"), "it was replaced")
        assert under_test.worker()["pid"] == worker_pid, "workers live on"
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "the pool works")
