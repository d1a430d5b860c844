"""Every signal that reaches the master, and every signal that its starter has blocked or ignored."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from supervisor.master.host.signals import IGNORED, TOUCHED, WITHOUT_MEANING
from tests.support.daemon import ROOT, daemon
from tests.support.waiting import eventually

DEAF = "exec env --block-signal=TERM,HUP,CHLD,INT,QUIT,USR1 --ignore-signal=TERM,HUP,CHLD,PIPE "


def test_signals_without_a_meaning_do_no_harm(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        assert under_test.process is not None
        before = under_test.pool()["consumer"]["pid"]
        for number in sorted(WITHOUT_MEANING | IGNORED):
            under_test.process.send_signal(number)
            under_test.ask("ping")
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "the daemon works")
        assert under_test.pool()["consumer"]["pid"] == before
        assert under_test.exits() == []


def test_sigquit_drains(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        under_test.send("until", "go", message_id="running")
        eventually(lambda: under_test.marked("begun"), "a message runs")
        assert under_test.process is not None
        under_test.process.send_signal(signal.SIGQUIT)
        eventually(under_test.has("daemon.stopping", requested_by="SIGQUIT"), "the stop has begun")
        (under_test.marks / "go").touch()
        assert under_test.wait() == 0
        assert under_test.marked("done") == ["running"]


@pytest.mark.parametrize("prefix", [DEAF, "trap '' TERM HUP CHLD INT QUIT USR1; exec "], ids=["blocked", "ignored"])
def test_what_its_starter_has_blocked_or_ignored_makes_it_deaf_to_nothing(tmp_path: Path, prefix: str) -> None:
    with daemon(tmp_path, start=False) as under_test:
        under_test.start(prefix=prefix)
        assert under_test.process is not None
        worker = under_test.worker()["pid"]
        for pid in (under_test.process.pid, worker, under_test.pool()["consumer"]["pid"]):
            assert signals(pid, "SigBlk") == set()
        assert not signals(worker, "SigIgn") & {signal.SIGTERM, signal.SIGCHLD, signal.SIGQUIT, signal.SIGUSR1}
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: under_test.worker()["pid"] not in (worker, None), "the death was seen", 4)
        under_test.process.send_signal(signal.SIGHUP)
        eventually(under_test.has("reload.done"), "a reload came of SIGHUP")
        assert under_test.stop() == 0


def test_start_returns_also_where_sigchld_is_ignored(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as under_test:
        command = [*under_test.program, "--config", str(under_test.config_path)]
        deaf = ["env", "--ignore-signal=CHLD", *command]
        subprocess.run([*deaf, "start"], check=True, timeout=60, cwd=ROOT)
        try:
            assert under_test.status()["state"] == "running"
        finally:
            subprocess.run([*command, "stop"], check=True, timeout=60, cwd=ROOT)


def test_every_signal_that_can_be_taken_has_a_meaning_or_none() -> None:
    assert not WITHOUT_MEANING & IGNORED
    assert {signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGRTMIN} <= WITHOUT_MEANING
    assert signal.SIGHUP in TOUCHED and signal.SIGKILL not in TOUCHED


def signals(pid: int, field: str) -> set[int]:
    """The signals of a mask in /proc/PID/status."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    mask = int(line.split()[1], 16)
    return {number for number in range(1, 65) if mask >> number - 1 & 1}
