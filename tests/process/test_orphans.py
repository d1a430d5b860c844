"""A master killed without warning and without systemd: what it leaves behind, who may take over, who is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.slot import Slot
from supervisor.system import posix
from supervisor.system.posix import executes
from tests.support.daemon import ROOT, Daemon, cleaned_up, daemon
from tests.support.waiting import eventually

PATIENT = 'timeout = "60s"\nmax_timeout = "60s"\nmax_attempts = 3\nretry_delays = ["100ms"]\n'
LOAD = 200

PIPELINE = "echo $$ >> $MARKS/pids; sleep 1000 | (echo $PREFORKD_ATTEMPT >> $MARKS/begun; sleep 1000) & wait"


def send_load(under_test: Daemon) -> set[str]:
    """Many messages that take a moment each; their ids."""
    ids = {f"m{number}" for number in range(LOAD)}
    body = json.dumps({"do": "sleep", "arguments": [0.01]}).encode()
    with open_admin(BrokerConfig(), str(under_test.state_dir)) as admin:
        messages = [Publication("", "email", Properties(message_id=one), body) for one in sorted(ids)]
        assert admin.publish(messages, LOAD, lambda total: None).sent == LOAD
    return ids


@contextmanager
def second(under_test: Daemon, config: Path) -> Iterator[subprocess.Popen[str]]:
    """Another `preforkd run`; ended with the test."""
    command = [sys.executable, "-m", "supervisor", "--config", str(config), "run"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as other:
        try:
            yield other
        finally:
            other.terminate()


# ---- under load -----------------------------------------------------------------------------------------------------


def test_a_master_killed_again_and_again_under_load_runs_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    with daemon(tmp_path, "workers = 3\n" + PATIENT) as under_test:
        ids = send_load(under_test)
        for share in (20, 70, 120):
            eventually(lambda n=share: len(under_test.marked("done")) >= n, f"{share} are done")  # type: ignore[misc]
            under_test.kill()
            under_test.start()
        eventually(lambda: len(under_test.marked("done")) >= LOAD, "all are done", 60)
        eventually(lambda: under_test.pool()["counters"]["done"] == LOAD, "and all are settled")
        begun = [line.split()[:2] for line in under_test.marked("begun")]
        assert sorted(begun) == sorted([one, "1"] for one in ids), "each once, and as its first attempt"
        assert sorted(under_test.marked("done")) == sorted(ids)


# ---- one daemon at a time -------------------------------------------------------------------------------------------


def test_a_second_daemon_on_the_state_directory_is_refused_whatever_its_runtime_directory(tmp_path: Path) -> None:
    with daemon(tmp_path) as under_test:
        other = tmp_path / "other.toml"
        other.write_text(
            under_test.config_path.read_text().replace(str(under_test.runtime_dir), str(tmp_path / "run2"))
        )
        before = under_test.pool()
        for config in (other, under_test.config_path):
            with second(under_test, config) as refused:
                _, error = refused.communicate(timeout=30)
            assert refused.returncode == 1
            assert under_test.process is not None
            assert f"in use by pid {under_test.process.pid}" in error
        assert under_test.pool()["consumer"]["pid"] == before["consumer"]["pid"]
        assert under_test.exits() == []


def test_of_two_daemons_that_start_after_a_kill_one_takes_over(tmp_path: Path) -> None:
    with daemon(tmp_path, "workers = 1\n" + PATIENT) as under_test:
        under_test.send("until", "go", message_id="long")
        eventually(lambda: under_test.marked("begun"), "a message runs")
        under_test.kill()
        under_test.start(ready=False)
        with second(under_test, under_test.config_path) as rival:
            first = under_test.process
            assert first is not None
            eventually(lambda: (first.poll() is None) != (rival.poll() is None), "one of them has given up")
            loser = rival if first.poll() is None else first
            assert loser.returncode == 1
            (under_test.marks / "go").touch()
            eventually(lambda: under_test.marked("done") == ["long"], "the former worker has finished")
        assert len(under_test.marked("begun")) == 1


# ---- grandchildren --------------------------------------------------------------------------------------------------


@contextmanager
def piping(directory: Path) -> Iterator[Daemon]:
    """A daemon that runs a shell's pipeline for each message."""
    under_test = Daemon(directory, "workers = 1\n" + PATIENT, 'stop_timeout = "1s"')
    script = directory / "pipeline.sh"
    script.write_text(PIPELINE)
    text = under_test.config_path.read_text().replace("daemon_handlers:run", "workers.command:run")
    under_test.config_path.write_text(f'{text}PREFORKD_COMMAND = "sh {script}"\n')
    with cleaned_up(under_test, start=True):
        yield under_test


def pipeline(under_test: Daemon) -> list[int]:
    """The processes of the pipeline that runs first, by their group."""
    leader = int(eventually(lambda: under_test.marked("pids"), "the shell runs")[0])
    eventually(lambda: under_test.marked("begun"), "its pipeline runs")
    members = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and group_of(int(entry.name)) == leader
    ]
    assert len(members) >= 3, "the shell and what it has piped together"
    return members


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_a_pipeline_ends_with_its_worker_before_its_message_runs_again(tmp_path: Path) -> None:
    with piping(tmp_path) as under_test:
        under_test.send("pipe")
        members = pipeline(under_test)
        os.kill(under_test.worker()["pid"], signal.SIGKILL)
        eventually(lambda: under_test.marked("begun") == ["1", "2"], "the message runs again")
        assert not [pid for pid in members if not posix.is_dying(pid)]


def test_a_pipeline_whose_master_and_worker_are_killed_ends_before_the_next_daemon_runs_anything(
    tmp_path: Path,
) -> None:
    with piping(tmp_path) as under_test:
        under_test.send("pipe")
        members = pipeline(under_test)
        worker = under_test.worker()["pid"]
        under_test.kill()
        os.kill(worker, signal.SIGKILL)
        under_test.start()
        assert not [pid for pid in members if not posix.is_dying(pid)]
        eventually(lambda: under_test.marked("begun") == ["1", "2"], "the message runs again, declared")
        assert under_test.exit(cause="lost", kind="worker")["run"] == "in_doubt"


def test_a_pipeline_of_a_former_daemons_worker_that_takes_too_long_ends_with_it(tmp_path: Path) -> None:
    with piping(tmp_path) as under_test:
        under_test.send("pipe")
        members = pipeline(under_test)
        under_test.kill()
        under_test.start()
        under_test.exit(cause="lost", kind="worker")
        assert not [pid for pid in members if not posix.is_dying(pid)]
        eventually(lambda: under_test.marked("begun") == ["1", "2"], "the message runs again, declared")


# ---- pids are given away --------------------------------------------------------------------------------------------


@pytest.fixture
def unrelated() -> Iterator[int]:
    """A process of another program that leads a group."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process.pid
        assert process.poll() is None, "no part of preforkd may end it"
        process.kill()


def test_who_has_the_pid_of_a_former_child_by_now_is_left_alone(tmp_path: Path, unrelated: int) -> None:
    with daemon(tmp_path, "workers = 1\n" + PATIENT) as under_test:
        worker = under_test.worker()["pid"]
        under_test.kill()
        eventually(lambda: not executes(worker), "its children have left")
        before = (posix.start_ticks(unrelated) or 0) - 1
        services = under_test.state_dir / "children.json"
        former = [service | {"pid": unrelated, "ticks": before} for service in json.loads(services.read_bytes())]
        services.write_text(json.dumps(former))
        Slot(under_test.state_dir / "pools/email/slots/0.slot").record_group(unrelated, before)
        (under_test.runtime_dir / "preforkd.pid").write_text(f"{unrelated} {before}\n")

        under_test.start()

        assert {record["kind"] for record in under_test.exits(cause="lost")} == {"worker", "forkserver", "consumer"}
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "the daemon works")
