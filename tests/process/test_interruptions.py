"""A command that is interrupted, whose reader or whose input has gone: it says what is and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.support.site import Site
from tests.support.waiting import eventually


@contextmanager
def begun(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def unread(stream: IO[str]) -> int:
    """The bytes of a pipe that its reader has not taken."""
    return struct.unpack("i", fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))[0]


# ---- the reader of what a command prints has gone ---------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [["status"], ["check"], ["exits"], ["exits", "-f"], ["metrics"], ["service"], ["--help"], ["publish", "mail"]],
)
def test_a_command_whose_reader_has_gone_ends_as_shells_expect(site: Site, command: list[str]) -> None:
    """Neither 0, which `check` had not earned, nor 1, which is "dead" for `status`."""
    if command[0] in ("status", "metrics", "publish"):
        site.ok("start")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        site.command(*command),
        env=site.environment,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


# ---- a question ----------------------------------------------------------------------------------------------------


def test_a_question_without_an_answer_and_one_that_is_answered_with_no_delete_nothing(site: Site) -> None:
    site.ok("start")
    for answer, told in (("", "the question had no answer (no more input); --yes asks nothing"), ("n\n", "was no")):
        done = site.cli("dead", "drop", "mail", "--all", stdin=answer)
        assert done.returncode == 130
        assert "nothing was deleted: " in done.stderr
        assert told in done.stderr


# ---- Ctrl-C and similar signals --------------------------------------------------------------------------------------


def test_an_interrupted_publish_says_how_many_are_confirmed(site: Site) -> None:
    site.ok("start")
    with begun(site.command("publish", "mail"), site.environment) as publisher:
        stdin = publisher.stdin
        assert stdin is not None
        stdin.write("one\n")
        stdin.flush()
        eventually(lambda: unread(stdin) == 0, "the first line was taken")
        publisher.send_signal(signal.SIGINT)
        _, said = publisher.communicate(timeout=30)
    assert publisher.returncode == 130
    assert re.search(
        r"^[01] message\(s\) were confirmed until then; others may be in the queue, too$", said, re.MULTILINE
    )
    assert said.rstrip().endswith("interrupted")


def test_an_interrupted_start_says_that_the_daemon_goes_on(site: Site) -> None:
    fifo = site.folder / "gate"
    os.mkfifo(fifo)
    handler = site.folder / "site_handler.py"
    handler.write_text(f"open({str(fifo)!r}).read()\n" + handler.read_text())
    with begun(site.command("start"), site.environment) as starter, fifo.open("w"):  # the import is under way
        starter.send_signal(signal.SIGINT)
        _, said = starter.communicate(timeout=30)
    assert starter.returncode == 130
    assert "the daemon goes on starting: `preforkd status` shows it, `preforkd stop` ends it" in said
    site.wait_for_state("running")
    site.ok("stop")


MOMENTS = (
    "click",
    "supervisor.cli.console",
    "msgspec",
    "supervisor.control.client",
    "supervisor.cli.program",
    "supervisor.system.reactor",
)
"""Modules that commands import, in this order: each is a moment at which Ctrl-C can come."""


@pytest.mark.parametrize(
    "program", [["-m", "supervisor"], ["-c", "import sys, supervisor.cli as c; sys.exit(c.main())"]]
)
@pytest.mark.parametrize("module", MOMENTS)
def test_a_command_that_is_interrupted_during_its_imports_shows_no_traceback(
    site: Site, program: list[str], module: str
) -> None:
    verbose = [sys.executable, "-v", *program, "--config", str(site.config), "exits", "-f"]
    with begun(verbose, site.environment) as command:
        assert command.stderr is not None
        for line in command.stderr:  # one for each module that has been loaded
            if line.startswith(f"import '{module}'"):
                break
        command.send_signal(signal.SIGINT)
        said = command.stderr.read()
    assert command.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said


def test_a_command_that_was_started_with_sigint_ignored_is_not_interrupted(site: Site) -> None:
    line = " ".join(site.command("exits", "-n", "0"))
    done = subprocess.run(
        ["sh", "-c", f"trap '' INT; {line} & kill -INT $!; wait $!"],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_drill_takes_its_daemon_with_it_by_whichever_signal_it_ends(number: signal.Signals) -> None:
    with a_drill_at_work() as (drill, pid):
        drill.send_signal(number)
        _, said = drill.communicate(timeout=60)
        assert (drill.returncode, said.strip()) == (130, "interrupted")
        assert not Path(f"/proc/{pid}").exists()


def test_a_drill_that_is_killed_takes_its_daemon_with_it_too() -> None:
    with a_drill_at_work() as (drill, pid):
        workers = children_of(pid)
        drill.kill()
        drill.wait(30)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the drill's daemon has ended", timeout_s=60)
        eventually(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "so have its children")


def children_of(pid: int) -> list[int]:
    """The pids of its children now."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def a_drill_at_work() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`preforkd drill` and the pid of its daemon, with messages under way."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="drill-") as folder:
        command = [sys.executable, "-P", "-m", "supervisor", "drill", "--messages", "100000"]
        with begun(command, {"PATH": "/usr/bin:/bin", "TMPDIR": folder}) as drill:
            eventually(lambda: any(Path(folder).glob("*/effects*")), "the drill's daemon works", timeout_s=60)
            yield drill, int(next(Path(folder).glob("*/run/preforkd.pid")).read_text())
