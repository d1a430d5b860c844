"""Children that belong to no pool: they come and go with their settings, and whatever they do, no pool notices."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from supervisor.master.exits.history import History
from supervisor.master.limits.boots import Boots
from supervisor.master.pool.children import Child, Children, Kind
from supervisor.master.sidecars.sidecar import Sidecar
from supervisor.scoreboard.words import Intent
from supervisor.system import posix
from supervisor.system.posix import executes
from supervisor.system.reactor import Reactor
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

POOL = "workers = 1"
HOOKS = '[hooks]\non_exit = "true"\n'


def sidecar(under_test: Daemon) -> dict[str, Any]:
    (found,) = under_test.status()["sidecars"] or [{"state": "", "pid": None}]
    return dict(found)


def another(under_test: Daemon, former: int | None) -> int:
    """The pid of one that is ready and is not the former one."""
    found = eventually(
        lambda: (now := sidecar(under_test))["state"] == "ready" and now["pid"] != former and now,
        "another one is ready",
    )
    return int(found["pid"])


def test_it_comes_and_goes_with_its_settings_and_is_replaced_when_it_dies(tmp_path: Path) -> None:
    with daemon(tmp_path, POOL) as under_test:
        assert under_test.status()["sidecars"] == []
        pool = under_test.pool()
        under_test.configure(POOL, HOOKS)
        assert under_test.ask("reload", wait=True)["reloading"]
        first = another(under_test, None)
        os.kill(first, signal.SIGKILL)
        record = under_test.exit(kind="hooks", pid=first)
        assert (record["event"], record["pool"], record["cause"]) == ("hooks.exited", "", "killed")
        second = another(under_test, first)
        under_test.configure(POOL, HOOKS + 'timeout = "3s"\n')
        under_test.ask("reload", wait=True)
        third = another(under_test, second)
        record = under_test.exit(kind="hooks", pid=second)
        assert (record["cause"], record["requested_by"]) == ("clean_stop", "reload")
        assert under_test.pool()["consumer"]["pid"] == pool["consumer"]["pid"]
        assert sidecar(under_test)["restarts"] == 2
        assert under_test.stop() == 0
        assert under_test.exit(kind="hooks", pid=third)["cause"] == "clean_stop"
        assert [record["kind"] for record in under_test.exits()][-1] == "hooks", "it is the last to leave"
        generations = [record["generation"] for record in under_test.exits(kind="hooks")]
        assert generations == sorted(set(generations))


def test_it_dies_with_its_master_and_what_it_ran_with_it_and_both_are_known_to_the_next(tmp_path: Path) -> None:
    hangs = f"[hooks]\non_exit = \"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000'\"\n"
    with daemon(tmp_path, POOL, hangs) as under_test:
        former = another(under_test, None)
        under_test.send("kill", signal.SIGSEGV)
        command = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "it runs"))
        under_test.kill()
        eventually(lambda: not executes(former) and not executes(command), "both died, too")
        under_test.configure(
            POOL, f"[hooks]\non_exit = \"sh -c 'echo $PREFORKD_KIND $PREFORKD_CAUSE >> {tmp_path}/told'\"\n"
        )
        under_test.start()
        assert under_test.exit(kind="hooks", pid=former)["cause"] == "lost"
        another(under_test, former)
        eventually(lambda: (tmp_path / "told").exists() and "hooks lost\n" in (tmp_path / "told").read_text(), "told")


def test_one_that_cannot_work_is_held_with_its_reason_and_the_pools_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken" / "uvicorn"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ModuleNotFoundError('half installed', name='h11')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    with daemon(tmp_path, POOL, '[web]\nlisten = "127.0.0.1:0"\n') as under_test:
        eventually(lambda: sidecar(under_test)["state"] == "held", "it is held")
        assert "pip install '.[web]'" in sidecar(under_test)["why"]
        assert [record["cause"] for record in under_test.exits(kind="web")] == ["boot_failed"] * 3
        (held,) = under_test.events("sidecar.held")
        assert ".[web]" in held["message"]
        assert (under_test.pool()["state"], under_test.status()["state"]) == ("ok", "running")


def test_a_sidecar_that_does_not_get_ready_in_a_minute_is_ended_as_a_failed_boot(tmp_path: Path) -> None:
    history, reactor = History(tmp_path), Reactor()
    sidecar = Sidecar(Kind.WEB, history, Children(), reactor)
    boots = Boots([], [sidecar])
    process = subprocess.Popen(["sleep", "1000"])
    try:
        child = Child("", Kind.WEB, None, process.pid, posix.start_ticks(process.pid) or 0, 1, started_s=100.0)
        sidecar.spec.child = child
        assert boots.due_s == 160.0
        boots.turn(159.0)
        assert child.intent is Intent.NONE
        boots.turn(160.0)
        assert process.wait(20) == -signal.SIGKILL
        assert (child.intent, child.requested_by) == (Intent.BOOT_KILL, "boot_timeout")
        assert boots.due_s > 160.0, "it is killed again only later"
    finally:
        process.kill()
        process.wait()
        history.close()
        reactor.close()
