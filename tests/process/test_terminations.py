"""Children that were asked to leave: killed after their time, which can only become shorter."""

from __future__ import annotations

import signal
import subprocess

import pytest

from supervisor.master.pool.children import Child, Children, Kind
from supervisor.master.stop.terminations import Terminations
from supervisor.scoreboard.words import Intent
from supervisor.system import posix


@pytest.fixture
def child(process: subprocess.Popen[bytes]) -> Child:
    """A sidecar that does not leave."""
    return Child("", Kind.WEB, None, process.pid, posix.start_ticks(process.pid) or 0, 1, 0.0)


def asked(child: Child) -> Terminations:
    children = Children()
    children.add(child)
    terminations = Terminations(children)
    terminations.ask(child, "reload", 100.0, 4.0)
    return terminations


def test_a_child_that_does_not_leave_in_its_time_is_killed(child: Child, process: subprocess.Popen[bytes]) -> None:
    terminations = asked(child)
    terminations.turn(103.9)
    assert child.intent is Intent.STOP
    terminations.turn(104.0)
    assert process.wait(20) == -signal.SIGKILL
    assert (child.intent, child.requested_by) == (Intent.STOP_KILL, "reload")


def test_a_second_request_only_shortens_the_time(child: Child) -> None:
    terminations = asked(child)
    terminations.ask(child, "preforkd stop", 101.0, 60.0)
    assert terminations.due_s == 104.0
    terminations.ask(child, "preforkd stop", 101.0, 1.0)
    assert (terminations.due_s, child.requested_by) == (102.0, "reload")


def test_a_child_that_is_being_killed_is_not_asked(child: Child) -> None:
    child.mark(Intent.BOOT_KILL, "boot_timeout")
    assert asked(child).due_s == float("inf")
