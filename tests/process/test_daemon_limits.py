"""Limits seen from outside, on whole daemons: where a limit came from, who has no room, whom the kernel took."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from tests.support.daemon import Daemon, cleaned_up, daemon
from tests.support.memory_groups import memory_group
from tests.support.waiting import eventually

PATIENT = 'workers = 1\nmax_attempts = 1\ntimeout = "60s"\nmax_timeout = "120s"\ntimeout_header = "x-limit"\n'
QUICK = 'workers = 1\nmax_attempts = 1\ntimeout = "300ms"\nmax_timeout = "1s"\ntimeout_header = "x-limit"\n'
UNLIMITED = "max_memory = 0\nkill_memory = 0\n"
SMALL = 'max_memory = "32MiB"\nkill_memory = "1GiB"\n'

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="making a cgroup needs root")


@contextmanager
def limited(directory: Path, settings: str, start: bool = True) -> Iterator[Daemon]:
    """A daemon that runs `limit_handlers`."""
    under_test = Daemon(directory, settings)
    text = under_test.config_path.read_text().replace("daemon_handlers:run", "limit_handlers:run")
    under_test.config_path.write_text(text)
    with cleaned_up(under_test, start):
        yield under_test


def send(under_test: Daemon, order: str, message_id: str, **headers: object) -> None:
    """Send an order to limit_handlers:run."""
    properties = Properties(message_id=message_id, headers=headers or None)
    with open_admin(BrokerConfig(), str(under_test.state_dir)) as admin:
        admin.publish([Publication("", "email", properties, order.encode())], 1, lambda total: None)


def runs(under_test: Daemon, message_id: str) -> None:
    eventually(lambda: under_test.worker()["message_id"] == message_id, f"{message_id} runs")


# ---- where a time limit came from -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "headers", "limit_s", "source"),
    [
        ("wait", {}, 60.0, "pool"),
        ("wait", {"x-limit": "90s"}, 90.0, "message"),
        ("wait", {"x-limit": "1h"}, 120.0, "message"),
        ("wait", {"x-limit": "soon"}, 60.0, "pool"),
        ("extend 30", {}, 90.0, "extended"),
    ],
)
def test_status_shows_the_limit_in_force_and_where_it_came_from(
    tmp_path: Path, order: str, headers: dict[str, object], limit_s: float, source: str
) -> None:
    with limited(tmp_path, PATIENT) as under_test:
        send(under_test, order, "m", **headers)
        runs(under_test, "m")
        eventually(lambda: under_test.worker()["limit_source"] == source, f"the limit is the {source}'s")
        assert under_test.worker()["limit_s"] == pytest.approx(limit_s, abs=2.0)


@pytest.mark.parametrize(
    ("order", "headers", "limit_s", "source"),
    [("wait", {"x-limit": "600ms"}, 0.6, "message"), ("extend 0.5", {}, 0.8, "extended")],
)
def test_record_and_log_name_the_limit_that_ended_a_run(
    tmp_path: Path, order: str, headers: dict[str, object], limit_s: float, source: str
) -> None:
    with limited(tmp_path, QUICK) as under_test:
        send(under_test, order, "m", **headers)
        record = under_test.exit(cause="timeout")
        assert (record["limit_source"], record["message_id"]) == (source, "m")
        assert record["limit_s"] == pytest.approx(limit_s, abs=0.2)
        assert record["elapsed_s"] >= limit_s - 0.2
        logged = under_test.has("worker.exited", limit_source=source, limit_s=record["limit_s"])
        eventually(logged, "the log follows the record")


# ---- no room to work ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "name"), [(SMALL, "max_memory"), ('max_memory = 0\nkill_memory = "32MiB"\n', "kill_memory")]
)
def test_a_worker_that_fills_its_limit_before_any_message_fails_the_start(
    tmp_path: Path, settings: str, name: str
) -> None:
    with limited(tmp_path, PATIENT + settings + 'init = "limit_handlers:init"', start=False) as under_test:
        (under_test.marks / "load").write_text("64")
        under_test.start(ready=False)
        assert under_test.wait() == 78
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["status"]) == ("boot_failed", 78)
        last_line = under_test.log_path.read_text().splitlines()[-1]
        told = rf"pools\.email\.{name} = 32MiB leaves no room for messages: the worker needs [67]\d\.\dMiB"
        assert re.search(told, last_line)
        assert under_test.processes() == []


def test_workers_that_grow_too_large_to_begin_are_held_and_not_replaced_for_ever(tmp_path: Path) -> None:
    settings = PATIENT + SMALL + 'init = "limit_handlers:init"\nrestart_backoff = ["10ms", "20ms"]\nhold_retry = "1h"'
    with limited(tmp_path, settings) as under_test:
        (under_test.marks / "load").write_text("64")
        os.kill(under_test.worker()["pid"], signal.SIGKILL)
        eventually(lambda: under_test.pool()["state"] == "held", "the pool is held")
        assert "max_memory = 32MiB leaves no room" in under_test.pool()["why"]
        assert [record["cause"] for record in under_test.exits()] == ["killed", "boot_failed", "boot_failed"]
        (under_test.marks / "load").unlink()


def test_a_worker_with_room_takes_its_messages(tmp_path: Path) -> None:
    with limited(tmp_path, PATIENT + 'max_memory = "128MiB"\ninit = "limit_handlers:init"', start=False) as under_test:
        (under_test.marks / "load").write_text("64")
        under_test.start()
        send(under_test, "return", "m")
        eventually(lambda: under_test.pool()["counters"]["done"] == 1, "the message is done")
        assert under_test.exits() == []


# ---- memory pressure ------------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.root
def test_what_the_kernel_takes_within_our_own_cgroup_is_confirmed_out_of_memory(tmp_path: Path) -> None:
    with memory_group(160 << 20) as group, limited(tmp_path, PATIENT + UNLIMITED, start=False) as under_test:
        under_test.start(prefix=f"echo $$ > {group}/cgroup.procs; exec ")
        send(under_test, "eat 300", "large")
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["signal"], record["oom_evidence"]) == ("out_of_memory", "SIGKILL", "confirmed")
        assert (record["message_id"], record["run"]) == ("large", "in_doubt")
        assert [child["kind"] for child in under_test.exits()] == ["worker"], "the kernel took no other process of ours"
        eventually(lambda: under_test.worker()["state"] == "idle", "the worker is replaced")
        os.kill(under_test.worker()["pid"], signal.SIGKILL)
        other = under_test.exit(kind="worker", cause="killed")
        assert other["oom_evidence"] == "", "a kill is evidence once: this one was another process's"


@needs_root
@pytest.mark.root
def test_a_worker_taken_in_a_group_of_its_own_is_suspected_out_of_memory(tmp_path: Path) -> None:
    with memory_group(64 << 20) as group, limited(tmp_path, PATIENT + UNLIMITED) as under_test:
        (group / "cgroup.procs").write_text(str(under_test.worker()["pid"]))
        send(under_test, "eat 200", "large")
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["signal"]) == ("out_of_memory", "SIGKILL")
        assert record["oom_evidence"] in ("confirmed", "suspected")


@needs_root
@pytest.mark.root
def test_kill_memory_acts_before_the_kernel_does(tmp_path: Path) -> None:
    settings = PATIENT + 'max_memory = "32MiB"\nkill_memory = "64MiB"'
    with memory_group(512 << 20) as group, limited(tmp_path, settings, start=False) as under_test:
        under_test.start(prefix=f"echo $$ > {group}/cgroup.procs; exec ")
        send(under_test, "eat 150", "large")
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["requested_by"], record["oom_evidence"]) == ("memory_limit", "kill_memory", "")


def test_a_sigkill_from_outside_is_killed_and_no_limit_is_blamed(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        os.kill(under_test.worker()["pid"], signal.SIGKILL)
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["signal"], record["requested_by"], record["oom_evidence"]) == (
            *("killed", "SIGKILL"),
            *("", ""),
        )
