"""Command lines of real processes, as they stand in logs and exit records, and the end of one by its title."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from supervisor.system.processes import command_line, end
from tests.support.waiting import eventually

TITLED = """
import sys
from supervisor.system.posix import set_title
set_title(sys.argv[1])
sys.stdin.read()
"""
NAMELESS = """
import sys
from supervisor.system.posix import set_title
set_title("")
open("/proc/self/comm", "w").write("odd")
sys.stdin.read()
"""


@contextmanager
def process(*command: str | bytes) -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for the end of its input; ended with the test."""
    with subprocess.Popen(command, stdin=subprocess.PIPE) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((b"cat", b"-", b"two words"), "cat - two words"),
        ((b"cat", b"-", b"not\xffutf-8"), "cat - not?utf-8"),
        ((b"cat", b"-", "größe".encode()), "cat - größe"),
        ((b"cat", b"-", b"", b" "), "cat -"),
    ],
)
def test_a_command_line_is_one_line_of_text(arguments: tuple[bytes, ...], told: str) -> None:
    with process(*arguments) as started:
        eventually(lambda: command_line(started.pid) == told, f"it is {told!r}, not {command_line(started.pid)!r}")


def test_a_process_without_a_command_line_has_its_name() -> None:
    with process(sys.executable, "-c", NAMELESS) as started:
        eventually(lambda: command_line(started.pid) == "odd", "its name is all there is")


def test_a_process_is_ended_by_its_title_and_no_other() -> None:
    title = "preforkd: worker email/3"
    with process(sys.executable, "-c", TITLED, title) as started:
        eventually(lambda: command_line(started.pid) == title, "it has its title")
        assert not end(started.pid, "preforkd: worker email/33", 1.0)
        assert started.poll() is None
        assert end(started.pid, title, 20.0)
        assert started.wait(20) == -9
