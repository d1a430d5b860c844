"""A pool that cannot work is held, the others go on: at the start as later, until it is mended and tried again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, daemon
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

POOL_HELD = 150

BROKEN = """
[pools.broken]
queue = "broken"
handler = "broken_handler:run"
init = "broken_handler:begin"
path = ["."]
workers = 2
hold_retry = "1h"
"""
_BROKEN_HANDLER = """
from pathlib import Path
def begin():
    if not (Path(__file__).parent / "mended").exists():
        raise ConnectionError("no database")
def run(message):
    (Path(__file__).parent / "ran").touch()
"""

SOON_HELD = "restart_intensity = [2, '60s']\nrestart_backoff = ['10ms', '20ms']\nhold_retry = '1h'\n"
HELD_AFTER_A_WAIT = SOON_HELD.replace("['10ms', '20ms']", "['800ms', '800ms']")
"""With a wait that is not over when a busy master records it."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A pool that works, and one whose `init` fails until the file `mended` is there."""
    with make_site(tmp_path) as site:
        site.config.write_text(site.config.read_text() + BROKEN)
        (tmp_path / "broken_handler.py").write_text(_BROKEN_HANDLER)
        yield site


def pool(site: Site, name: str = "broken") -> dict[str, Any]:
    found: dict[str, Any] = site.status()["pools"][name]
    return found


def test_at_the_start_one_pool_that_cannot_boot_is_held_and_the_others_run(site: Site) -> None:
    started = site.cli("start")

    assert started.returncode == POOL_HELD
    assert "preforkd is ready" in started.stdout
    assert "pool broken is held: broken/0 cannot boot: ConnectionError: no database" in started.stderr
    assert "preforkd retry broken" in started.stderr
    site.ok("publish", "mail", stdin="x\n")
    site.wait_for_counter("done", 1)
    status = site.cli("status")
    assert (status.returncode, "pool broken: held" in status.stdout) == (POOL_HELD, True)
    assert "preforkd retry broken" in site.ok("why", "broken")
    assert site.status()["state"] == "running"


def test_retry_tries_a_held_pool_at_once_and_leaves_the_others_alone(site: Site) -> None:
    site.cli("start")
    pids = {worker["pid"] for worker in pool(site, "mail")["workers"]}
    site.ok("publish", "broken", stdin="x\n")
    assert "trying broken/0, broken/1" in site.ok("retry", "broken")
    eventually(lambda: pool(site)["holds"] == 4, "both were tried, and held again")
    assert (pool(site)["state"], pool(site)["consumer"]["in_flight"]) == ("held", 0)

    (site.folder / "mended").touch()
    site.ok("retry", "broken")

    eventually((site.folder / "ran").exists, "its message has run")
    eventually(lambda: pool(site)["state"] in ("degraded", "ok"), "the pool works again")
    assert "no child is held or waits for its back-off" in site.ok("retry", "mail")
    assert {worker["pid"] for worker in pool(site, "mail")["workers"]} == pids
    unknown = site.cli("retry", "absent")
    assert "there is no pool 'absent'" in unknown.stderr


def test_a_start_fails_only_when_no_pool_can_work_and_ends_with_1_where_one_may_heal(site: Site) -> None:
    (site.folder / "site_handler.py").write_text("import no_such_module_anywhere\n")

    failed = site.cli("start")

    assert failed.returncode == 1, "the database may come: systemd tries again"
    assert "no_such_module_anywhere" in failed.stderr
    assert "pools.broken: broken/0 cannot boot: ConnectionError: no database" in failed.stderr
    assert site.processes() == []


def test_a_held_pool_requeues_what_no_worker_can_run_and_takes_it_again_when_one_can(tmp_path: Path) -> None:
    with daemon(tmp_path, "workers = 1\n" + SOON_HELD) as under_test:
        _hold(under_test, 0)
        for number in range(3):
            under_test.send("nothing", message_id=f"m-{number}")
        eventually(lambda: under_test.pool()["depth"]["ready"] == 3, "all wait in the queue, none is taken")
        pool = under_test.pool()
        assert (pool["state"], pool["consumer"]["state"], pool["consumer"]["in_flight"]) == ("held", "paused", 0)
        assert under_test.ask("retry", pool="email") == {"tried": ["email/0"]}
        eventually(lambda: sorted(under_test.marked("done")) == ["m-0", "m-1", "m-2"], "they run")
        eventually(lambda: under_test.pool()["state"] == "ok", "who ends a message has proved itself")


def test_what_was_read_ahead_goes_back_when_the_pool_is_held_and_a_resume_does_not_undo_that(tmp_path: Path) -> None:
    with daemon(tmp_path, "workers = 1\nmax_attempts = 9\nretry_delays = ['1h']\n" + SOON_HELD) as under_test:
        for number in range(6):
            under_test.send("kill", signal.SIGKILL, message_id=f"m-{number}")
        eventually(lambda: under_test.pool()["state"] == "held", "the only worker is held")
        eventually(lambda: under_test.pool()["consumer"]["in_flight"] == 0, "nothing is kept unacknowledged")
        eventually(lambda: under_test.pool()["depth"]["ready"] == 3, "the message that was never begun is in the queue")
        assert under_test.pool()["counters"]["retried"] == 3
        under_test.ask("pause", pool="email")
        under_test.ask("resume", pool="email")
        eventually(lambda: under_test.pool()["paused"] is None, "it is not paused")
        assert under_test.pool()["consumer"]["state"] == "paused"


@pytest.mark.parametrize("kind", ["consumer", "forkserver"])
def test_who_dies_a_moment_after_it_was_ready_is_backed_off_and_held(tmp_path: Path, kind: str) -> None:
    with daemon(tmp_path, "workers = 1\n" + HELD_AFTER_A_WAIT) as under_test:
        for number in range(1, 4):
            at_work = lambda: under_test.pool()[kind]["state"] in ("ready", "consuming")  # noqa: E731
            eventually(at_work, "it is ready")
            os.kill(under_test.pool()[kind]["pid"], signal.SIGKILL)
            eventually(lambda n=number: len(under_test.exits(kind=kind)) == n, "its death is on record")  # type: ignore[misc]
        delays = [record["restart_in_s"] for record in under_test.exits(kind=kind)]
        assert delays[0] == 0.0 < delays[1] < 1.0 < delays[2] == 3600.0
        pool = under_test.pool()
        assert pool[kind]["state"] == "held"
        assert pool["state"] == ("held" if kind == "consumer" else "degraded"), "the worker lives on"
        assert f"email {kind} left: killed (SIGKILL)" in pool["why"]
        assert under_test.ask("retry", pool="email") == {"tried": [f"email {kind}"]}
        eventually(lambda: under_test.pool()[kind]["pid"] is not None, "it was tried at once")
        assert under_test.pool()["state"] != "ok", "to be ready proves nothing"


def _hold(under_test: Daemon, slot: int) -> None:
    """Kill this worker until its place is held."""
    for number in range(1, 4):
        os.kill(eventually(lambda: under_test.worker(slot)["pid"], "there is a worker"), signal.SIGKILL)
        eventually(lambda n=number: len(under_test.exits(slot=slot)) == n, "its death is on record")  # type: ignore[misc]
    eventually(lambda: under_test.pool()["state"] == "held", "the pool is held")
