"""The end of a run that the kernel holds: real workers that are stopped, or stuck in C code, without a master."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from supervisor.cli.check import findings
from supervisor.cli.findings import Level
from supervisor.config.load import load
from supervisor.config.schema import KERNEL_MARGIN_S
from supervisor.link.frames import Outcome
from supervisor.scoreboard.words import OutcomeKind
from supervisor.system.clock import boottime_s
from supervisor.system.kill_timer import shortcoming
from supervisor.system.posix import executes, is_stopped
from tests.support.daemon import Daemon, daemon, send_signal
from tests.support.pools import ROOT, Link, MakeMaster, Master, run_frame
from tests.support.waiting import eventually

GRACE_S = 0.2
STUCK = f'workers = 1\nmax_attempts = 1\ntimeout = "300ms"\nmax_timeout = "1s"\nkill_grace = "{GRACE_S * 1000:.0f}ms"\n'


def boot(make_master: MakeMaster, **pool: object) -> tuple[Master, int, Link]:
    master = make_master(timeout_s=0.2, max_timeout_s=60.0, kill_grace_s=GRACE_S, **pool)
    master.boot()
    return master, *master.worker()


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: is_stopped(pid), "it is stopped")


def test_a_worker_that_is_stopped_in_its_run_is_killed_without_its_master(make_master: MakeMaster) -> None:
    master, pid, link = boot(make_master)
    began_s = boottime_s()
    link.run(run_frame(1, "wait", gate=str(master.gate())))
    master.note("waiting m1")
    stop(pid)
    assert began_s + 0.2 <= master.slot().end_s() - GRACE_S - KERNEL_MARGIN_S <= boottime_s() + 0.2
    assert master.status(pid) == -signal.SIGKILL
    assert boottime_s() - began_s >= 0.2 + GRACE_S + KERNEL_MARGIN_S
    running = master.slot().running()
    assert running is not None and running.message_id == "m1", "the run stays in doubt"
    assert 0 < master.slot().end_s() <= boottime_s(), "the slot says that the kernel was to kill it"


def test_a_handler_in_c_code_is_killed_without_its_master(make_master: MakeMaster) -> None:
    master, pid, link = boot(make_master)
    link.run(run_frame(1, "spin_in_c"))
    assert master.status(pid) == -signal.SIGKILL


def test_an_extension_moves_the_end_that_the_kernel_holds(make_master: MakeMaster) -> None:
    master, pid, link = boot(make_master, soft_timeout_s=0.1)
    began_s = boottime_s()
    link.run(run_frame(1, "spin", extend=1.5, swallow="spin"))
    eventually(lambda: master.slot().end_s() > began_s + 1.7 + GRACE_S + KERNEL_MARGIN_S, "the mark has moved")
    stop(pid)
    assert master.status(pid) == -signal.SIGKILL
    assert boottime_s() - began_s >= 1.7 + GRACE_S + KERNEL_MARGIN_S


def test_a_worker_that_rests_after_its_run_is_not_killed(make_master: MakeMaster) -> None:
    master, pid, link = boot(make_master)
    assert link.outcome_of(run_frame(1, "done")).kind == OutcomeKind.DONE
    eventually(lambda: master.slot().end_s() == 0.0, "no end is held")
    stop(pid)
    over_s = boottime_s() + 0.5 + GRACE_S + KERNEL_MARGIN_S
    eventually(lambda: boottime_s() > over_s, "the run's end would be over")
    os.kill(pid, signal.SIGCONT)
    assert link.outcome_of(run_frame(2, "done")).kind == OutcomeKind.DONE


def test_a_run_whose_publishes_wait_for_their_confirm_is_not_killed(make_master: MakeMaster) -> None:
    master, _pid, link = boot(make_master)
    link.run(run_frame(1, "publish"))
    running = eventually(lambda: (run := master.slot().running()) and run.publishing and run, "it is publishing")
    assert running is not None
    eventually(lambda: master.slot().end_s() == 0.0, "no end is held")


def test_a_worker_stopped_until_after_the_end_of_its_run_never_calls_the_handler(make_master: MakeMaster) -> None:
    """It is stopped behind the reading of the clock that its end is counted from, before its timer is set."""
    master, pid, link = boot(make_master, init="sample_handlers:stop_behind_the_mark")
    link.run(run_frame(1, "done"))
    eventually(lambda: is_stopped(pid), "it has marked its run, and is stopped")
    assert master.slot().end_s() == 0.0
    over_s = boottime_s() + 0.2 + GRACE_S + KERNEL_MARGIN_S
    eventually(lambda: boottime_s() > over_s, "the run's end is over")
    os.kill(pid, signal.SIGCONT)
    assert master.status(pid) == -signal.SIGKILL
    assert "done m1" not in master.noted()
    assert 0 < master.slot().end_s() <= boottime_s()


def test_a_worker_without_such_a_timer_works_and_says_so(make_master: MakeMaster) -> None:
    master, _pid, link = boot(make_master, init="sample_handlers:allow_no_timers")
    assert link.outcome_of(run_frame(1, "done")).kind == OutcomeKind.DONE
    assert "the kernel cannot hold the end of runs, the master alone does: [Errno 11] timer_create" in (
        master.errors.read_text()
    )
    link.run(run_frame(2, "wait", gate=str(gate := master.gate())))
    master.note("waiting m2")
    assert master.slot().end_s() == 0.0, "no cause is found from a timer that is not there"
    master.open_gate(gate)
    assert link.expect(Outcome).kind == OutcomeKind.DONE


@pytest.mark.parametrize("fleet", [False, True])
def test_check_names_a_machine_without_such_timers(tmp_path: Path, fleet: bool) -> None:
    path, url = tmp_path / "preforkd.toml", tmp_path / "url"
    text = f'[daemon]\nstate_dir = "{tmp_path}"\nruntime_dir = "{tmp_path}"\n'
    text += '[broker]\nurl = "amqp://127.0.0.1:1/"\n[pools.email]\nqueue = "email"\nhandler = "workers.log:run"\n'
    path.write_text(text + (f'[fleet]\nname = "test"\nurl_file = "{url}"\n' if fleet else ""))
    url.write_text("postgresql://127.0.0.1:1/none")
    url.chmod(0o600)
    soft, hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, hard))
    try:
        found = [finding for finding in findings(load(path)) if "no timer that ends a run" in finding.text]
    finally:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (soft, hard))
    assert [finding.level for finding in found] == [Level.ERROR if fleet else Level.WARNING]
    assert shortcoming() == ""


# ---- whole daemons --------------------------------------------------------------------------------------------------


def hangs(under_test: Daemon) -> int:
    """A run that never ends by itself has begun; the pid of its worker."""
    under_test.send("hang_in_c", message_id="m")
    begun = eventually(partial(under_test.marked, "begun"), "it runs")
    assert begun is not None
    return int(begun[0].split()[2])


def test_of_a_daemon_that_is_stopped_past_its_limits_no_handler_goes_on(tmp_path: Path) -> None:
    with daemon(tmp_path, STUCK) as under_test:
        worker = hangs(under_test)
        stopped = under_test.processes()
        send_signal(stopped, signal.SIGSTOP)
        assert worker in stopped
        eventually(lambda: not executes(worker) and not is_stopped(worker), "the kernel has killed the worker")
        send_signal(stopped, signal.SIGCONT)
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["signal"], record["requested_by"]) == ("timeout", "SIGKILL", "kernel timer")
        assert (record["message_id"], record["run"], record["oom_evidence"]) == ("m", "in_doubt", "")
        assert record["limit_s"] == pytest.approx(0.3, abs=0.1)
        assert under_test.marked("done") == []
        eventually(lambda: under_test.worker()["state"] == "idle", "the worker is replaced at once")


def test_the_masters_kill_comes_before_the_kernels(tmp_path: Path) -> None:
    with daemon(tmp_path, STUCK) as under_test:
        hangs(under_test)
        record = under_test.exit(kind="worker")
        assert (record["cause"], record["signal"], record["requested_by"]) == ("timeout", "SIGKILL", "time limit")
        assert "in _hang_in_c" in record["stack"], "only the master asks for the stack"


# ---- programs -------------------------------------------------------------------------------------------------------

_RUNS_A_PROGRAM = """
import os, sys
from workers.command import run_program
run_program(("sh", "-c", "sleep 1000 | sleep 1001 & echo $$ $! > $PIDS.new; mv $PIDS.new $PIDS; wait"), os.environ, b"")
"""


@pytest.mark.parametrize("descriptors", [1024, 40])
def test_a_program_and_its_children_die_with_their_worker_without_a_master(tmp_path: Path, descriptors: int) -> None:
    pids = tmp_path / "pids"
    worker = subprocess.Popen(
        [sys.executable, "-c", _RUNS_A_PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PREFORKD_COMMAND": "true", "PIDS": str(pids)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors)),
    )
    try:
        eventually(pids.exists, "the program runs")
        program, *children = map(int, pids.read_text().split())
        worker.kill()
        worker.wait()
        for pid in (program, *children):
            eventually(lambda pid=pid: not executes(pid), f"{pid} is killed")
    finally:
        worker.kill()
        worker.wait()
        if pids.exists():
            send_signal(map(int, pids.read_text().split()), signal.SIGKILL)
