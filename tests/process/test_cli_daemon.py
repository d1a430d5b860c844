"""Starting, watching and stopping a real daemon through the command line, on the embedded queue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.site import Site
from tests.support.waiting import eventually

# ---- start ----------------------------------------------------------------------------------------------------------


def test_start_returns_when_the_daemon_is_ready(site: Site) -> None:
    said = site.ok("start")

    status = site.status()
    assert said.startswith(f"preforkd is ready, pid {status['pid']}, log ")
    assert status["state"] == "running"
    assert json.loads(site.ok("status", "--json"))["pid"] == status["pid"]
    pool = status["pools"]["mail"]
    children = pool["forkserver"], pool["consumer"], *pool["workers"]
    assert {status["pid"], *(child["pid"] for child in children)} <= set(site.processes()), "others look for them so"
    assert [worker["state"] for worker in pool["workers"]] == ["idle"]


def test_a_daemon_is_held_by_no_terminal_no_folder_and_no_parent(running: Site) -> None:
    pid = running.status()["pid"]

    assert os.getsid(pid) not in (pid, os.getsid(0)), "a session of its own, which it does not lead"
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    targets = [Path(f"/proc/{pid}/fd/{standard}").readlink() for standard in (0, 1, 2)]
    assert targets[0] == Path("/dev/null")
    assert targets[1] == targets[2], "the pipe of the log relay"
    assert targets[1].name.startswith("pipe:")
    relays = [pid for pid in running.processes() if "logs/relay.py" in Path(f"/proc/{pid}/cmdline").read_text()]
    targets = [Path(f"/proc/{relays[0]}/fd/{standard}").readlink() for standard in (1, 2)]
    assert targets == [running.folder / "state" / "preforkd.log"] * 2


def test_a_second_start_is_refused_and_names_the_first(running: Site) -> None:
    pid = running.status()["pid"]

    second = running.cli("start")

    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith(f"error: preforkd is running already, pid {pid};")
    assert running.status()["pid"] == pid


def test_a_start_that_cannot_work_returns_with_the_reason_and_leaves_nothing(site: Site) -> None:
    (site.folder / "site_handler.py").write_text("import no_such_module_anywhere\n")

    failed = site.cli("start")

    assert failed.returncode == 78
    assert "no_such_module_anywhere" in failed.stderr
    assert str(site.folder / "state" / "preforkd.log") in failed.stderr
    assert site.processes() == []
    assert site.cli("status").returncode == 3


def test_a_bad_configuration_is_told_without_starting_anything(site: Site) -> None:
    site.config.write_text(site.config.read_text() + 'wrokers = 3\nqueue_type = "x"\n')

    failed = site.cli("start")

    assert failed.returncode == 78
    assert "wrokers" in failed.stderr
    assert "queue_type" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (site.folder / "state").exists()


# ---- status ---------------------------------------------------------------------------------------------------------


def test_status_tells_running_dead_and_not_running_apart(site: Site) -> None:
    assert site.cli("status").returncode == 3
    site.ok("start")
    assert site.cli("status").returncode == 0

    os.kill(site.status()["pid"], signal.SIGKILL)
    eventually(lambda: not site.processes(), "the daemon's children have gone with it")

    dead = site.cli("status")
    assert dead.returncode == 1
    assert "dead" in dead.stdout


def test_a_dead_daemon_is_no_obstacle_to_the_next(running: Site) -> None:
    first = running.status()["pid"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not running.processes(), "the daemon's children have gone with it")

    running.ok("start")

    assert running.status()["pid"] != first


HOLD = """
import pathlib, sys
from supervisor.master.host.pidfile import LockFile
lock = LockFile(pathlib.Path(sys.argv[1]), "the runtime directory")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_daemon_that_is_not_reaped_yet_is_dead(site: Site) -> None:
    (site.folder / "run").mkdir()
    path = site.folder / "run" / "preforkd.pid"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ended:
        assert ended.stdin is not None
        assert ended.stdout is not None
        assert ended.stdout.readline() == b"held\n"
        assert site.cli("status").returncode == 0
        ended.stdin.close()
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)

        assert site.cli("status").returncode == 1


def test_status_shows_what_a_worker_does(running: Site) -> None:
    os.mkfifo(running.folder / "gate")
    running.ok("publish", "mail", "--id-prefix", "m", stdin="wait gate\n")
    running.wait_until_running("m0")

    shown = running.ok("status")

    (line,) = [line for line in shown.splitlines() if line.startswith("mail/0")]
    assert "running" in line
    assert line.rstrip().endswith("m0")
    (running.folder / "gate").write_text("go")
    running.wait_for_counter("done", 1)


# ---- stop -----------------------------------------------------------------------------------------------------------


def test_stop_waits_for_the_end_and_shows_what_was_drained(running: Site) -> None:
    pid = running.status()["pid"]

    said = running.ok("stop")

    assert said.splitlines()[0].startswith(f"stopped pid {pid} in ")
    assert "pool mail: 0 finished, 0 returned unstarted, 0 cut off" in said
    assert running.processes() == []


def test_stopping_what_does_not_run_succeeds(site: Site) -> None:
    assert "not running" in site.ok("stop")


def test_stop_lets_a_running_message_finish(running: Site) -> None:
    os.mkfifo(running.folder / "gate")
    running.ok("publish", "mail", "--id-prefix", "m", stdin="wait gate\n")
    running.wait_until_running("m0")

    with subprocess.Popen(running.command("stop"), env=running.environment, stdout=subprocess.PIPE, text=True) as stop:
        eventually(lambda: running.status()["state"] == "stopping", "the stop has begun")
        (running.folder / "gate").write_text("go")
        said, _ = stop.communicate(timeout=60)

    assert stop.returncode == 0
    assert "1 finished" in said
    assert [record["cause"] for record in running.exits()] == ["clean_stop"]


def test_stop_now_names_the_messages_it_cut_off(running: Site) -> None:
    os.mkfifo(running.folder / "gate")
    running.ok("publish", "mail", "--id-prefix", "m", stdin="wait gate\n")
    running.wait_until_running("m0")

    said = running.ok("stop", "--now")

    assert "by force" in said
    assert "cut off: m0" in said
    assert [record["cause"] for record in running.exits()] == ["stop_killed"]


def test_a_stale_pid_file_never_makes_stop_signal_an_unrelated_process(site: Site) -> None:
    (site.folder / "run").mkdir()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=site.environment) as unrelated:
        (site.folder / "run" / "preforkd.pid").write_text(f"{unrelated.pid} 1\n")

        assert "not running" in site.ok("stop")

        assert unrelated.poll() is None
        unrelated.communicate(timeout=20)
    assert unrelated.returncode == 0


def test_a_daemon_without_its_socket_is_stopped_by_signal(running: Site) -> None:
    socket = running.folder / "run" / "control.sock"
    socket.unlink()
    socket.mkdir()  # or the daemon would make it again

    assert "by SIGTERM" in running.ok("stop")
    assert running.processes() == []


# ---- restart --------------------------------------------------------------------------------------------------------


def test_restart_replaces_the_daemon(running: Site) -> None:
    first = running.status()["pid"]

    running.ok("restart")

    assert running.status()["pid"] != first


def test_a_restart_with_a_bad_configuration_stops_nothing(running: Site) -> None:
    first = running.status()["pid"]
    good = running.config.read_text()
    running.config.write_text(good.replace("workers = 1", "workers = -1"))

    assert running.cli("restart").returncode == 78

    running.config.write_text(good)
    assert running.status()["pid"] == first


# ---- run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_stays_in_the_foreground_until_it_is_told_to_end(site: Site, number: signal.Signals) -> None:
    with subprocess.Popen(site.command("run"), env=site.environment, stderr=subprocess.PIPE, text=True) as daemon:
        eventually(lambda: site.cli("status").returncode == 0 and site.status()["state"] == "running", "it is ready")
        assert site.status()["pid"] == daemon.pid

        daemon.send_signal(number)
        _, log = daemon.communicate(timeout=60)

    assert daemon.returncode == 0, log
    assert "daemon.stopped" in log
    assert "Traceback" not in log


def test_a_run_that_fails_leaves_with_its_reason(site: Site) -> None:
    (site.folder / "site_handler.py").write_text("run = 3\n")

    failed = site.cli("run")

    assert failed.returncode == 78
    assert "error: " in failed.stderr
    assert "site_handler:run" in failed.stderr.splitlines()[-1]
