"""Incident 4: a job that timed out was never marked failed, came back for ever, and all exits looked alike."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

STRICT = 'timeout = "500ms"\nkill_grace = "300ms"\nretry_delays = ["100ms"]\n'


# ---- attempts are counted in our own record -------------------------------------------------------------------------


def test_crash_and_timeout_count_as_attempts_of_their_message(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """On a classic queue, where the broker counts nothing."""
    pool = 'workers = 1\nmax_attempts = 3\nqueue_arguments = { "x-queue-type" = "classic" }\n' + STRICT
    with rabbit_daemon(tmp_path, rabbitmq, pool) as under_test:
        under_test.send("by_attempt", f"kill {signal.SIGSEGV}", "sleep 1000", message_id="unlucky")
        under_test.wait_done("unlucky")
        under_test.wait_counted(done=1, failed=2, retried=2, dead=0)
        assert under_test.runs("unlucky") == [1, 2, 3]
        exits = [(exit_["cause"], exit_["message_id"], exit_["attempt"]) for exit_ in under_test.exits()]
        assert exits == [("crash", "unlucky", 1), ("timeout", "unlucky", 2)]
        eventually(under_test.settled, "nothing is left")


def test_a_return_by_a_lost_connection_is_no_attempt(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """On a quorum queue, where the broker counts every return: two of them, and only one attempt allowed.

    After the second return a copy saves the message from a delivery limit: one delivery more, and still no attempt.
    """
    pool = (
        'workers = 1\nprefetch = 5\nmax_attempts = 1\ntimeout = "60s"\nqueue_arguments = { "x-queue-type" = "quorum" }'
    )
    with rabbit_daemon(tmp_path, rabbitmq, pool) as under_test:
        under_test.send("until", "connections-lost", message_id="running")
        under_test.pid_running("running")
        under_test.send("nothing", message_id="waiting")
        for lost in (1, 2):
            under_test.wait_counted(delivered=2 * lost)
            rabbitmq.close_connections_named("preforkd consumer email")
        eventually(lambda: under_test.pool()["counters"]["delivered"] >= 6, "both were delivered three times")
        under_test.release("connections-lost")
        under_test.wait_done("running", "waiting")
        under_test.wait_counted(done=2, failed=0, dead=0)
        assert (under_test.runs("running"), under_test.runs("waiting")) == ([1], [1])


# ---- the end of the loop --------------------------------------------------------------------------------------------

ENDINGS: dict[str, dict[str, object]] = {
    "sleep": {"x-preforkd-status": 124, "x-preforkd-signal": None},
    "hang_in_c": {"x-preforkd-status": None, "x-preforkd-signal": "SIGKILL"},
}
"""How a worker ends that its own timer reaches, and how one that is stuck in C code does."""


def test_a_message_that_always_times_out_leaves_for_the_dead_letter_queue(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, "workers = 2\nmax_attempts = 2\n" + STRICT) as under_test:
        under_test.send_all([under_test.order("sleep", 1000), under_test.order("hang_in_c")])
        under_test.wait_counted(dead=2)
        eventually(under_test.settled, "the queue is empty")
        assert (under_test.runs("sleep"), under_test.runs("hang_in_c")) == ([1, 2], [1, 2])
        under_test.wait_counted(delivered=4)

        found = {properties.message_id: properties.headers for properties, _body in under_test.dead()}
        assert set(found) == set(ENDINGS)
        for message_id, ending in ENDINGS.items():
            headers = found[message_id]
            assert (headers["x-preforkd-cause"], headers["x-preforkd-attempts"]) == ("timeout", 2)
            assert {name: headers.get(name) for name in ending} == ending
            assert "daemon_handlers.py" in headers["x-preforkd-stack"]
            assert headers["x-preforkd-worker"].startswith("email/")
            assert under_test.events("message.dead", message_id=message_id)
        listed = under_test.cli_ok("dead", "list", under_test.queue)
        assert listed.count("timeout") >= 2


# ---- every reason told apart ----------------------------------------------------------------------------------------

REASONS = {
    ("recycled", 75, None),
    ("timeout", 124, None),
    ("timeout", None, "SIGKILL"),
    ("crash", None, "SIGSEGV"),
    ("crash", 70, None),
    ("killed", None, "SIGKILL"),
    ("memory_limit", None, "SIGKILL"),
    ("unexpected_exit", 0, None),
    ("clean_stop", 0, None),
    ("stop_killed", None, "SIGKILL"),
    ("boot_failed", 78, None),
}
"""All but `out_of_memory` (needs the kernel's killer; tests/unit/master) and `lost` (tests/process)."""


def test_every_reason_for_an_exit_is_told_apart_in_the_status(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """One history across three lives of the daemon, since a failed boot, a stop and a forced stop each end one."""
    pool = 'workers = 1\nmax_attempts = 1\nmax_messages = 1\nmax_memory = "64MiB"\nkill_memory = "96MiB"\n' + (
        'max_timeout = "60s"\ntimeout_header = "x-timeout"\nrestart_intensity = [100, "60s"]\n'
        'restart_backoff = ["10ms", "20ms"]\n'
    )
    with rabbit_daemon(tmp_path, rabbitmq, pool + STRICT + 'init = ""') as under_test:
        _leave_in_every_way(under_test)
        assert under_test.stop() == 0

        under_test.configure(pool + STRICT + 'init = "tests.support.daemon_handlers:refuse_to_boot"')
        under_test.start(ready=False)
        assert under_test.wait() == 1

        under_test.configure(pool + STRICT)
        under_test.start()
        under_test.send("until", "never", message_id="cut-off", **{"x-timeout": "50s"})
        under_test.pid_running("cut-off")
        under_test.cli_ok("stop", "--now")
        assert under_test.wait() == 0
        under_test.start()
        tally = {(row["cause"], row["status"], row["signal"]) for row in under_test.status()["exits"]}
        assert tally == REASONS
        table = [line.split() for line in under_test.cli_ok("status").splitlines()]
        for cause, status, signal_name in REASONS:
            shown = [cause, signal_name or str(status)]
            assert [line for line in table if line[2:4] == shown], shown


def _leave_in_every_way(under_test: RabbitDaemon) -> None:
    """Each order ends its worker; a long limit where the time limit is not meant."""
    patient = {"x-timeout": "50s"}
    under_test.send("nothing")
    under_test.send("sleep", 1000)
    under_test.send("hang_in_c")
    under_test.send("kill", signal.SIGSEGV, **patient)
    under_test.send("leave_hard", 70, **patient)
    under_test.send("leave", 0, **patient)
    under_test.send("eat", 160, **patient)
    under_test.send("until", "never", **patient)
    os.kill(under_test.pid_running("until"), signal.SIGKILL)
    under_test.wait_counted(done=1, dead=7)


# ---- the limit in force ---------------------------------------------------------------------------------------------


def test_the_limit_in_force_and_its_source_are_in_status_and_log(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    pool = 'workers = 2\nmax_attempts = 1\nmax_timeout = "60s"\ntimeout_header = "x-timeout"\n' + STRICT
    with rabbit_daemon(tmp_path, rabbitmq, pool) as under_test:
        under_test.send("until", "go-on", message_id="long", **{"x-timeout": "30s"})
        under_test.pid_running("long")
        [worker] = [worker for worker in under_test.pool()["workers"] if worker["message_id"] == "long"]
        assert (worker["limit_s"], worker["limit_source"]) == (30.0, "message")
        assert "30s (message)" in under_test.cli_ok("status")

        under_test.send("sleep", 1000, message_id="by-pool")
        under_test.send("sleep", 1000, message_id="by-message", **{"x-timeout": "300ms"})
        under_test.wait_counted(dead=2)
        limits = {
            line["message_id"]: (line["limit_s"], line["limit_source"])
            for line in under_test.events("worker.exited", cause="timeout")
        }
        assert limits == {"by-pool": (0.5, "pool"), "by-message": (0.3, "message")}
        under_test.release("go-on")
        under_test.wait_done("long")
