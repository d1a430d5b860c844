"""workers.command: a program per message, with real programs; whatever ends a run, nothing of it is left."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

from supervisor import Message, Properties, Reject, Retry, SoftTimeout
from supervisor import api as handler_api
from supervisor.errors import BootError
from supervisor.system import posix
from supervisor.system.posix import executes
from tests.support.daemon import Daemon, cleaned_up
from tests.support.waiting import eventually

BODY = os.urandom(1024) * 5 * 1024


@pytest.fixture(scope="module")
def command() -> ModuleType:
    """The module, imported as a forkserver does: with the pool's environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFORKD_COMMAND", "true")
        return importlib.import_module("workers.command")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a descriptor, a child or a signal handler behind."""
    before, others = sorted(os.listdir("/proc/self/fd")), set(posix.own_children())  # noqa: PTH208  (no objects wanted)
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert set(posix.own_children()) <= others  # those of the whole test run: a broker
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the worker's slot would have on record, one entry after another."""
    recorded: list[int] = []
    monkeypatch.setattr(handler_api._recorder, "call", recorded.append)
    return recorded


def shell(command: ModuleType, script: str, body: bytes = b"", **environment: str) -> Any:
    return command.run_program(("sh", "-c", script), os.environ | environment, body)


def handle(command: ModuleType, monkeypatch: pytest.MonkeyPatch, script: str, message: Message | None = None) -> None:
    """Run the handler itself with this script as its program."""
    monkeypatch.setattr(command, "_COMMAND", ("sh", "-c", script))
    command.run(message or Message(b"body"))


def gone(pid: int) -> bool:
    return not executes(pid)


# ---- input and output ---------------------------------------------------------------------------------------------


def test_the_body_is_on_standard_input(command: ModuleType, tmp_path: Path) -> None:
    ending = shell(command, 'cat > "$OUT"', BODY, OUT=str(tmp_path / "out"))
    assert ending.status == 0
    assert (tmp_path / "out").read_bytes() == BODY


def test_a_program_reads_its_body_from_a_pipe_whatever_the_limit_on_files(command: ModuleType) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(BODY) // 2, hard))
    try:
        ending = shell(command, "test -p /dev/stdin && wc -c", BODY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (ending.status, ending.tail.split()) == (0, [str(len(BODY))])


def test_five_megabytes_through_cat_do_not_block_and_only_their_end_is_kept(command: ModuleType) -> None:
    body = b"x" * len(BODY) + b"the end"
    ending = command.run_program(("cat",), os.environ, body)
    assert ending.status == 0
    assert ending.tail == body[-command.TAIL_BYTES :].decode()


def test_a_pipeline_gets_the_whole_body_and_its_end_of_file(command: ModuleType) -> None:
    ending = shell(command, "cat | sha256sum | cut -c1-64", BODY)
    assert (ending.status, ending.tail) == (0, hashlib.sha256(BODY).hexdigest())


def test_an_empty_body_is_an_end_of_file_at_once(command: ModuleType) -> None:
    assert shell(command, "wc -c").tail == "0"


def test_a_program_that_ignores_its_input_is_not_waited_for(command: ModuleType) -> None:
    assert shell(command, "exit 0", BODY).status == 0
    assert shell(command, "exec 0<&-; echo closed; exit 3", BODY)[1:] == (3, "closed")


def test_a_program_that_closes_its_output_is_waited_for_without_spinning(command: ModuleType) -> None:
    before_s = time.process_time()
    assert shell(command, "exec 1>&- 2>&-; cat > /dev/null; sleep 0.5; exit 4", BODY).status == 4
    assert time.process_time() - before_s < 0.25


def test_output_and_errors_come_in_the_order_they_were_written(command: ModuleType) -> None:
    assert shell(command, "echo one; echo two >&2; echo three").tail == "one\ntwo\nthree"


def test_output_that_is_no_text_is_kept_readable(command: ModuleType) -> None:
    assert shell(command, r"printf 'a\377b'").tail == "a\N{REPLACEMENT CHARACTER}b"


# ---- what the program is told -------------------------------------------------------------------------------------


def test_the_facts_of_the_message_are_in_the_environment(command: ModuleType) -> None:
    headers = {"n": 1, "at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\xff", "price": Decimal("9.5"), "deep": [{}]}
    message = Message(b"", id="m\0-1", properties=Properties(headers=headers), queue="email", routing_key="mail.de")
    message.attempt, message.round, message.redelivered = 3, 2, True
    facts = command.facts_of(message)
    told = command.run_program(("env",), facts, b"").tail.splitlines()
    assert sorted(told) == sorted(f"{name}={value}" for name, value in facts.items())
    assert json.loads(facts.pop("PREFORKD_HEADERS")) == {
        "n": 1,
        "at": "2026-01-02T00:00:00Z",
        "raw": "/w==",
        "price": "9.5",
        "deep": [{}],
    }
    assert facts == {
        "PREFORKD_MESSAGE_ID": "m-1",
        "PREFORKD_QUEUE": "email",
        "PREFORKD_ROUTING_KEY": "mail.de",
        "PREFORKD_ROUND": "2",
        "PREFORKD_ATTEMPT": "3",
        "PREFORKD_FENCE": str(2 << 32 | 3),
        "PREFORKD_REDELIVERED": "1",
    }


def test_a_program_starts_with_default_signals_and_none_blocked(command: ModuleType) -> None:
    facts = shell(command, "exec cat /proc/self/status").tail
    assert int(re.search(r"SigBlk:\s*(\w+)", facts)[1], 16) == 0  # type: ignore[index]
    ignored = int(re.search(r"SigIgn:\s*(\w+)", facts)[1], 16)  # type: ignore[index]
    assert ignored & (1 << signal.SIGRTMIN - 3) - 1 == 0  # the others are libc's own


def test_a_program_inherits_no_open_file(command: ModuleType, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w"):
        assert "secret" not in shell(command, "exec ls -l /proc/self/fd").tail


# ---- how it ends --------------------------------------------------------------------------------------------------


def test_status_0_is_done(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    handle(command, monkeypatch, "exit 0")


def test_status_75_asks_for_a_retry(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Retry) as caught:
        handle(command, monkeypatch, "echo busy; exit 75")
    assert caught.value.delay_s is None
    assert caught.value.reason == "sh left with status 75; its output ended with:\nbusy"


def test_status_65_rejects(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Reject, match="sh left with status 65; it wrote nothing"):
        handle(command, monkeypatch, "exit 65")


def test_another_status_fails_with_the_end_of_the_output(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(command.ProgramFailed, match="sh left with status 3; its output ended with:\nno such customer"):
        handle(command, monkeypatch, "echo no such customer >&2; exit 3")


def test_a_killed_program_fails_naming_the_signal(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(command.ProgramFailed, match="sh was killed by SIGSEGV"):
        handle(command, monkeypatch, "kill -SEGV $$")


def test_a_program_that_has_vanished_fails_by_name(command: ModuleType) -> None:
    with pytest.raises(command.ProgramFailed, match="/no/such/program cannot be started: No such file"):
        command.run_program(("/no/such/program",), os.environ, b"")


def test_facts_too_long_for_a_program_fail_by_name(command: ModuleType) -> None:
    with pytest.raises(command.ProgramFailed, match="sh cannot be started: Argument list too long"):
        shell(command, "exit 0", LONG="x" * 200_000)


def test_the_output_of_a_success_is_logged_where_that_is_configured(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "preforkd.workers.command")
    message = Message(b"body", id="m-1")
    handle(command, monkeypatch, "echo dropped", message)
    monkeypatch.setattr(command, "_OUTPUT", command.LOG)
    handle(command, monkeypatch, "exit 0", message)
    handle(command, monkeypatch, "echo one; echo two >&2", message)
    with pytest.raises(Retry):
        handle(command, monkeypatch, "echo in the reason already; exit 75", message)
    assert caplog.messages == ["message m-1: sh left with status 0; its output ended with:\none\ntwo"]


# ---- nothing outlives the run -------------------------------------------------------------------------------------


def test_a_child_left_in_the_background_ends_with_its_leader(command: ModuleType, groups: list[int]) -> None:
    ending = shell(command, "sleep 600 & echo $!; exit 0")
    assert ending.status == 0
    eventually(lambda: gone(int(ending.tail)), "the background child is gone")
    assert groups[1] == 0


def test_a_flood_from_the_background_does_not_keep_the_run_alive(command: ModuleType) -> None:
    ending = shell(command, "yes & exit 5")
    assert ending.status == 5
    assert len(ending.tail) <= command.TAIL_BYTES


def test_a_writer_that_left_the_group_does_not_keep_the_run_alive(command: ModuleType, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = """setsid sh -c 'echo $$ > "$PIDS"; exec yes' & while [ ! -s "$PIDS" ]; do :; done; exit 6"""
    try:
        assert shell(command, script, PIDS=str(pids)).status == 6
    finally:
        os.kill(int(pids.read_text()), signal.SIGKILL)


def test_the_group_is_on_record_while_it_lives(command: ModuleType, groups: list[int]) -> None:
    ending = shell(command, "echo $$; ps -o pgid= -o sid= -p $$")
    pid = int(ending.tail.split()[0])
    assert ending.tail.split() == [str(pid)] * 3
    assert groups == [pid, 0]


@contextmanager
def alarm_after(command: ModuleType, seconds: float) -> Iterator[None]:
    """As a worker's soft limit: SIGALRM raises SoftTimeout wherever the handler just is."""

    def ring(signum: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code is command.run_program.__code__:
                raise SoftTimeout
            frame = frame.f_back

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_soft_timeout_ends_the_whole_group(command: ModuleType, groups: list[int], tmp_path: Path) -> None:
    with alarm_after(command, 0.5), pytest.raises(SoftTimeout):
        shell(command, 'sleep 600 & echo $! > "$PIDS"; sleep 600', PIDS=str(tmp_path / "pids"))
    leader = groups[0]
    assert groups == [leader, 0]
    assert gone(leader)
    eventually(lambda: gone(int((tmp_path / "pids").read_text())), "the background child is gone")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo working >&2; exec sleep 600", "its output ended with:\nworking"),
        ("exec sleep 600", "it wrote nothing"),
        ("trap 'echo not now' TERM; echo working; while :; do sleep 600; done", "its output ended with:\nworking"),
        ("exec yes", "y\ny"),
        (r"printf 'a\377b'; exec sleep 600", "a\N{REPLACEMENT CHARACTER}b"),
        ("echo working & exec sleep 600", "its output ended with:\nworking"),
    ],
)
def test_a_soft_timeout_tells_what_the_program_had_written(command: ModuleType, script: str, told: str) -> None:
    with alarm_after(command, 0.5), pytest.raises(SoftTimeout) as caught:
        shell(command, script)
    text = str(caught.value)
    assert text.startswith("sh did not end within its time; ")
    assert text.endswith(told)
    assert caught.value.__context__ is None  # the caller is not told of frames in between
    assert len(text) < command.TAIL_BYTES + 100


def test_a_soft_timeout_at_any_moment_leaves_nothing(command: ModuleType, groups: list[int]) -> None:
    timed_out = 0
    for step in range(150):
        try:
            with alarm_after(command, 0.00002 * (step + 1)):
                command.run_program(("true",), os.environ, b"body")
        except SoftTimeout:
            timed_out += 1
        assert groups[-1:] in ([0], [])
    assert timed_out > 0
    assert all(gone(pid) for pid in groups if pid)


# ---- configuration ------------------------------------------------------------------------------------------------


def test_the_command_is_split_like_a_shell_does(command: ModuleType) -> None:
    words = command.command_from({"PREFORKD_COMMAND": "sh -c 'echo $HOME; exit 0'", "PATH": os.environ["PATH"]})
    assert words == ("sh", "-c", "echo $HOME; exit 0")


@pytest.mark.parametrize(
    ("configured", "says"),
    [
        ({}, "PREFORKD_COMMAND is not set"),
        ({"PREFORKD_COMMAND": "  "}, "PREFORKD_COMMAND is not set"),
        ({"PREFORKD_COMMAND": "sh -c 'open"}, "No closing quotation"),
        ({"PREFORKD_COMMAND": "no-such-program -x"}, "there is no program 'no-such-program'"),
        ({"PREFORKD_COMMAND": "/etc/passwd"}, "there is no program '/etc/passwd'"),
    ],
)
def test_a_command_that_cannot_work_is_a_boot_error(command: ModuleType, configured: dict[str, str], says: str) -> None:
    with pytest.raises(BootError, match=says):
        command.command_from(configured)


def test_what_becomes_of_the_output_is_read_from_the_environment(command: ModuleType) -> None:
    assert command.output_from({}) == "drop"
    assert command.output_from({"PREFORKD_COMMAND_OUTPUT": "log"}) == "log"
    with pytest.raises(BootError, match="PREFORKD_COMMAND_OUTPUT = 'yes': there is no such choice"):
        command.output_from({"PREFORKD_COMMAND_OUTPUT": "yes"})


# ---- under a real daemon ------------------------------------------------------------------------------------------


@contextmanager
def commanding(directory: Path, script: str, settings: str = "", start: bool = True) -> Iterator[Daemon]:
    """A daemon whose program is a Python script; it gets $MARKS."""
    (directory / "program.py").write_text(script)
    under_test = Daemon(directory, f"workers = 1\n{settings}")
    text = under_test.config_path.read_text().replace("daemon_handlers:run", "workers.command:run")
    words = f"{sys.executable} {directory / 'program.py'}"
    under_test.config_path.write_text(f'{text}PREFORKD_COMMAND = "{words}"\n')
    with cleaned_up(under_test, start):
        yield under_test


MARK = """
import os, pathlib, subprocess, sys, signal
def mark(name, line):
    with (pathlib.Path(os.environ["MARKS"]) / name).open("a") as marks:
        marks.write(f"{line}\\n")
"""
HANG = (
    MARK
    + 'print("half way", flush=True); '
    + 'mark("pids", os.getpid()); mark("pids", subprocess.Popen(["sleep", "600"]).pid); signal.pause()'
)


def hanging(under_test: Daemon) -> list[int]:
    """The pids of the program and of its background child."""
    under_test.send("hang")
    eventually(lambda: under_test.marked("pids")[1:], "the program runs")
    return [int(pid) for pid in under_test.marked("pids")]


def test_a_daemon_runs_a_program_for_a_message(tmp_path: Path) -> None:
    script = MARK + 'mark("told", os.environ["PREFORKD_MESSAGE_ID"] + " " + sys.stdin.read())'
    with commanding(tmp_path, script) as under_test:
        under_test.send("deed", message_id="m-1")
        eventually(lambda: under_test.pool()["counters"]["done"] == 1, "the message is done")
        assert under_test.marked("told") == ['m-1 {"do": "deed", "arguments": []}']


@pytest.mark.parametrize(
    ("settings", "cause"),
    [('timeout = "1s"', "timeout"), ('timeout = "20s"', "killed")],
    ids=["time limit", "kill -9 of the worker"],
)
def test_the_programs_group_ends_with_its_worker(tmp_path: Path, settings: str, cause: str) -> None:
    with commanding(tmp_path, HANG, settings + "\nmax_attempts = 1") as under_test:
        leader, background = hanging(under_test)
        if cause == "killed":
            os.kill(under_test.worker()["pid"], signal.SIGKILL)
        record = under_test.exit(kind="worker", cause=cause)
        if cause == "timeout":
            assert record["stack"].startswith(f"{sys.executable} did not end within its time; its output")
            assert "\nhalf way\n" in record["stack"]
            assert "supervisor/worker/" not in record["stack"]
        eventually(lambda: gone(leader) and gone(background), "the program's whole group is gone")


def test_the_programs_group_ends_at_the_soft_limit_and_the_worker_lives(tmp_path: Path) -> None:
    with commanding(tmp_path, HANG, 'soft_timeout = "500ms"\nmax_attempts = 1') as under_test:
        pid = under_test.worker()["pid"]
        leader, background = hanging(under_test)
        eventually(lambda: gone(leader) and gone(background), "the program's whole group is gone")
        eventually(lambda: under_test.pool()["counters"]["dead"] == 1, "the message is dead-lettered")
        assert under_test.worker()["pid"] == pid
        assert "; its output ended with:\\nhalf way" in under_test.log_path.read_text()


def test_a_daemon_without_a_command_says_so_and_does_not_start(tmp_path: Path) -> None:
    with commanding(tmp_path, "", start=False) as under_test:
        text = under_test.config_path.read_text()
        under_test.config_path.write_text(text[: text.index("PREFORKD_COMMAND")])
        under_test.start(ready=False)
        assert under_test.wait() == 78
        assert "PREFORKD_COMMAND is not set" in under_test.log_path.read_text()
