"""A boot has a time limit: an import or an `init` that hangs is ended with its stack, as a failed boot."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import ControlError
from tests.support.daemon import Daemon, daemon
from tests.support.nobody import needs_root
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

_HANDLER = """
import os, time
from pathlib import Path
HERE = Path(__file__).parent
def hang_if(name):
    while (HERE / name).exists():
        time.sleep(0.05)
hang_if("hang-import")
def begin():
    hang_if("hang-init")
def run(message):
    pass
"""
_POOL = """
[pools.slow]
queue = "slow"
handler = "slow_handler:run"
init = "slow_handler:begin"
path = ["."]
workers = 1
boot_timeout = "3s"
hold_retry = "1h"
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A pool that works, and one that hangs while `hang-import` or `hang-init` is there."""
    with make_site(tmp_path) as site:
        site.config.write_text(site.config.read_text() + _POOL)
        (tmp_path / "slow_handler.py").write_text(_HANDLER)
        yield site


def slow(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.status()["pools"]["slow"]
    return found


@pytest.mark.parametrize(
    ("where", "kind", "what"), [("import", "forkserver", "its import hangs"), ("init", "worker", "its `init` hangs")]
)
def test_a_boot_that_hangs_is_ended_as_a_failed_boot_with_its_stack(
    site: Site, where: str, kind: str, what: str
) -> None:
    (site.folder / f"hang-{where}").touch()

    started = site.cli("start")

    assert started.returncode == 150, started.stderr
    assert f"was not ready within boot_timeout: {what}" in started.stderr
    records = [line for line in site.ok("exits", "--json", "-n", "0").splitlines() if '"slow"' in line]
    assert len(records) == 1
    assert f'"kind": "{kind}"' in records[0]
    assert '"cause": "boot_failed"' in records[0]
    assert '"requested_by": "boot_timeout"' in records[0]
    assert "in hang_if" in records[0], "the stack names the place"
    (site.folder / f"hang-{where}").unlink()
    site.ok("retry", "slow")
    eventually(lambda: slow(site)["workers"][0]["state"] == "idle", "its worker is ready")


def test_an_init_that_hangs_after_a_crash_is_held_in_the_end(site: Site) -> None:
    site.config.write_text(site.config.read_text() + 'restart_intensity = [1, "60s"]\n')
    site.ok("start")
    (site.folder / "hang-init").touch()
    os.kill(slow(site)["workers"][0]["pid"], signal.SIGKILL)
    eventually(lambda: slow(site)["state"] == "held", "the pool is held", 30.0)
    assert "boot_timeout" in slow(site)["why"]


def test_a_reload_whose_import_hangs_fails_with_the_reason_and_changes_nothing(site: Site) -> None:
    site.ok("start")
    pid = slow(site)["workers"][0]["pid"]
    (site.folder / "hang-import").touch()

    failed = site.cli("reload")

    assert failed.returncode == 78
    assert "slow forkserver was not ready within boot_timeout" in failed.stderr
    assert slow(site)["workers"][0]["pid"] == pid


def test_a_boot_just_within_its_time_is_left_alone(tmp_path: Path) -> None:
    settings = 'workers = 1\ninit = "daemon_handlers:wait_for_boot"\nboot_timeout = "4s"'
    with daemon(tmp_path, settings, start=False) as under_test:
        under_test.start(ready=False)
        eventually(lambda: _is_booting(under_test), "the worker is in its init")
        (under_test.marks / "boot").touch()
        eventually(under_test.is_ready, "the daemon is ready")
        assert under_test.exits() == []


def test_a_forkserver_that_is_stopped_in_its_boot_is_ended_by_the_same_limit(tmp_path: Path) -> None:
    with daemon(tmp_path, 'workers = 1\nboot_timeout = "5s"\nhold_retry = "1h"') as under_test:
        os.kill(under_test.pool()["forkserver"]["pid"], signal.SIGKILL)
        booting = eventually(lambda: _new_forkserver(under_test), "another one boots")
        os.kill(booting, signal.SIGSTOP)
        record = under_test.exit(kind="forkserver", pid=booting)
        assert (record["cause"], record["signal"]) == ("boot_failed", "SIGKILL")
        eventually(lambda: under_test.pool()["forkserver"]["state"] == "ready", "the next one is ready")


@needs_root
@pytest.mark.root
def test_an_init_that_gives_up_the_user_is_a_failed_boot_with_the_reason(tmp_path: Path) -> None:
    _refused(tmp_path, "import os\ndef begin(): os.setuid(65534)", "permission denied; an `init` that changes the user")


def _refused(folder: Path, code: str, reason: str) -> None:
    (folder / "own_init.py").write_text(code)
    with daemon(folder, 'workers = 1\ninit = "own_init:begin"', start=False) as under_test:
        text = under_test.config_path.read_text().replace('path = ["', f'path = ["{folder}", "')
        under_test.config_path.write_text(f'{text}LINK = "{under_test.runtime_dir}/email.sock"\n')
        under_test.start(ready=False)
        assert under_test.wait() == 78, "a person must edit something"
        assert under_test.exit(kind="worker")["cause"] == "boot_failed"
        assert reason in under_test.exit(kind="worker")["stack"]


def _new_forkserver(under_test: Daemon) -> int:
    forkserver = under_test.pool()["forkserver"]
    return forkserver["pid"] if forkserver["state"] == "importing" and forkserver["pid"] else 0


def _is_booting(under_test: Daemon) -> bool:
    with suppress(ControlError):
        worker = under_test.worker()
        return bool(worker["pid"] and worker["state"] == "booting")
    return False
