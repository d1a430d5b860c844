"""Children that belong to no pool: they come and go with their settings, and whatever they do, no pool notices."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

HOOKS = '[hooks]\non_exit = "true"\n'


def sidecar(under_test: Daemon) -> dict[str, Any]:
    (found,) = under_test.status()["sidecars"]
    return dict(found)


def is_ready(under_test: Daemon) -> bool:
    return bool(sidecar(under_test)["state"] == "ready")


def test_a_sidecar_that_is_killed_is_on_record_and_replaced_and_no_pool_notices(tmp_path: Path) -> None:
    with daemon(tmp_path, daemon=HOOKS) as under_test:
        eventually(lambda: is_ready(under_test), "the hooks process is ready")
        before, worker = sidecar(under_test)["pid"], under_test.worker()["pid"]
        os.kill(before, signal.SIGKILL)
        record = under_test.exit(kind="hooks", pid=before)
        assert (record["event"], record["pool"], record["cause"]) == ("hooks.exited", "", "killed")
        eventually(lambda: is_ready(under_test) and sidecar(under_test)["pid"] != before, "another one is ready")
        assert sidecar(under_test)["restarts"] == 1
        assert (under_test.worker()["pid"], under_test.pool()["state"]) == (worker, "ok")
        after = sidecar(under_test)["pid"]
        assert under_test.stop() == 0
        assert under_test.exit(kind="hooks", pid=after)["cause"] == "clean_stop"
        last = [record["kind"] for record in under_test.exits()][-1]
        assert last == "hooks", "they are the last to leave"
        assert under_test.processes() == []


def test_a_reload_starts_replaces_and_stops_it_and_leaves_workers_connection_alone(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        assert under_test.status()["sidecars"] == []
        consumer = under_test.pool()["consumer"]["pid"]
        under_test.configure("workers = 1", HOOKS)
        assert under_test.ask("reload", wait=True)["reloading"]
        eventually(lambda: under_test.status()["sidecars"] and is_ready(under_test), "it was started")
        first = sidecar(under_test)["pid"]
        under_test.configure("workers = 1", HOOKS + 'timeout = "3s"\n')
        under_test.ask("reload", wait=True)
        eventually(lambda: is_ready(under_test) and sidecar(under_test)["pid"] != first, "it was replaced")
        assert under_test.exit(kind="hooks", pid=first)["requested_by"] == "reload"
        under_test.configure("workers = 1")
        under_test.ask("reload", wait=True)
        eventually(lambda: not under_test.status()["sidecars"], "it is gone")
        assert under_test.pool()["consumer"]["pid"] == consumer


def test_one_that_outlived_its_master_is_ended_and_lost(tmp_path: Path) -> None:
    with daemon(tmp_path, daemon=HOOKS) as under_test:
        eventually(lambda: is_ready(under_test), "the hooks process is ready")
        former = sidecar(under_test)
        under_test.kill()
        under_test.start()
        assert under_test.exit(kind="hooks", pid=former["pid"])["cause"] == "lost"
        eventually(lambda: is_ready(under_test), "another one is there")
