"""A child that cannot be sent its first frame is ended at once, on record and replaced; one that reads late is not
waited for."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from supervisor.master.pool.exit_records import NO_FIRST_FRAME
from supervisor.system.clock import monotonic_s
from tests.support.daemon import Daemon, Exit, cleaned_up, daemon
from tests.support.faulty import ANSWER_S, Faulty, faulty
from tests.support.faulty_calls import CALLS
from tests.support.waiting import eventually

CALL = "socket.send_fds"
KINDS = ("consumer", "forkserver")


def unstarted(under_test: Daemon, **facts: Any) -> list[Exit]:
    """Records of children that were not sent their first frame."""
    return [exit_ for exit_ in under_test.exits(**facts) if exit_["requested_by"].startswith(NO_FIRST_FRAME)]


def unknown_children(under_test: Daemon) -> set[int]:
    """Pids of the master's children that status does not name: the log relay, and what is off the books."""
    assert under_test.process is not None
    master = under_test.process.pid
    children = set(map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split()))
    pools = under_test.status()["pools"].values()
    specs = [spec for pool in pools for spec in (pool["forkserver"], pool["consumer"], *pool["workers"])]
    return children - {spec["pid"] for spec in specs}


def child(under_test: Daemon, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = under_test.pool()[kind]
    return found


def test_a_child_that_cannot_be_sent_its_first_frame_is_ended_at_once_recorded_and_replaced(tmp_path: Path) -> None:
    with faulty(tmp_path) as under_test:
        for number, error in enumerate(CALLS[CALL], 1):
            for kind in KINDS:
                under_test.order.give(CALL, error, 1)
                os.kill(child(under_test, kind)["pid"], signal.SIGKILL)
                eventually(lambda kind=kind, number=number: len(unstarted(under_test, kind=kind)) == number, error)
                eventually(under_test.is_well, f"a {kind} replaces one that met {error}")
                record = unstarted(under_test, kind=kind)[-1]
                assert (record["cause"], record["signal"]) == ("crash", "SIGKILL"), error
                assert record["restart_in_s"] > 0, error
                assert record["requested_by"] == f"{NO_FIRST_FRAME}: {os.strerror(getattr(errno, error))}"
                assert record["uptime_s"] < ANSWER_S
                assert under_test.has("child.unkillable")() is False
        for kind in KINDS:
            assert len(under_test.exits(kind=kind)) == 2 * len(CALLS[CALL]), "no child is off the books"
        eventually(lambda: len(unknown_children(under_test)) == 1, "only the log relay is not in the books")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_backs_off_while_no_first_frame_can_be_sent_and_heals(tmp_path: Path, kind: str) -> None:
    with faulty(tmp_path) as under_test:
        under_test.order.give(CALL, "ENOBUFS", 0)
        os.kill(child(under_test, kind)["pid"], signal.SIGKILL)
        eventually(lambda: len(unstarted(under_test, kind=kind)) >= 6, "it is tried again and again")
        delays = [record["restart_in_s"] for record in unstarted(under_test, kind=kind)[:6]]
        assert delays[-1] > delays[0]
        assert under_test.pool()["state"] == "degraded"
        assert f"{NO_FIRST_FRAME}: No buffer space available" in child(under_test, kind)["why"]
        under_test.order.take_back()
        eventually(under_test.is_well, "it heals")


def test_a_sidecar_that_cannot_be_sent_its_first_frame_is_ended_at_once_recorded_and_replaced(tmp_path: Path) -> None:
    under_test = Faulty(tmp_path)
    under_test.config_path.write_text(f'[web]\nlisten = "127.0.0.1:0"\n{under_test.config_path.read_text()}')
    with cleaned_up(under_test, start=True):
        eventually(lambda: under_test.status()["sidecars"][0]["state"] == "ready", "the web process is there")
        (web,) = under_test.status()["sidecars"]
        under_test.order.give(CALL, "ENOBUFS", 1)
        os.kill(web["pid"], signal.SIGKILL)
        (record,) = eventually(lambda: unstarted(under_test, kind="web"), "its replacement is on record")
        assert (record["cause"], record["signal"]) == ("crash", "SIGKILL")
        eventually(lambda: under_test.status()["sidecars"][0]["state"] == "ready", "another one is there")


def test_a_reload_whose_new_forkserver_cannot_be_sent_its_first_frame_fails_with_the_reason(tmp_path: Path) -> None:
    with faulty(tmp_path) as under_test:
        under_test.order.give(CALL, "ENOMEM", 0)
        under_test.ask("reload")
        eventually(lambda: under_test.events("reload.failed"), "the reload fails")
        (failed,) = under_test.events("reload.failed")
        assert f"{NO_FIRST_FRAME}: Cannot allocate memory" in failed["why"]
        under_test.order.take_back()
        assert under_test.is_well(), "the former code goes on"
        under_test.ask("reload")
        eventually(lambda: under_test.events("reload.done"), "the next one succeeds")


def test_a_child_that_hangs_before_it_reads_a_large_first_frame_holds_up_no_other(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import signal\nsignal.pause()\n")
    with daemon(tmp_path, 'workers = 1\nboot_timeout = "1s"\nhold_retry = "1h"', start=False) as under_test:
        text = under_test.config_path.read_text()
        good = text[text.index("[pools.email]") :].replace("email", "other").replace('"1s"', '"30s"')
        large = "".join(f'LARGE_{number} = "{"x" * 100_000}"\n' for number in range(4))
        under_test.config_path.write_text(f'{text}PYTHONPATH = "{tmp_path}"\n{large}{good}')
        asked_s = monotonic_s()
        under_test.start(ready=False)
        eventually(lambda: under_test.exits(kind="forkserver", cause="boot_failed"), "it is ended by boot_timeout")
        eventually(lambda: under_test.status()["pools"]["other"]["state"] == "ok", "the other pool works")
        assert monotonic_s() < asked_s + 30


def test_a_large_first_frame_arrives_whole(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as under_test:
        large = "".join(f'LARGE_{number} = "{"x" * 100_000}"\n' for number in range(4))
        under_test.config_path.write_text(under_test.config_path.read_text() + large)
        under_test.start()
        under_test.send("nothing")
        eventually(lambda: "nothing" in under_test.marked("done"), "the pool works")
