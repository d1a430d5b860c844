"""The control socket of a whole daemon under abuse: every line has its answer, and supervision goes on.

`test_control_server.py` has the server alone. Here the verbs are the real ones, and workers die meanwhile.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.control.protocol import VERBS
from supervisor.control.server import MAX_CONNECTIONS
from supervisor.system.clock import monotonic_s
from tests.support.control import read_line, read_to_end
from tests.support.daemon import Daemon, daemon
from tests.support.descriptors import descriptors
from tests.support.waiting import eventually

IDLE = 1000
SLOW = 40

_HARMLESS = sorted(VERBS.keys() - {"stop", "reload", "cut_connection"})
"""Verbs that may be carried out here as often as a search likes; the others are asked with wrong arguments only."""

_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_WORKERS = st.sampled_from([-1, 0, 1, 2, 10**6, 2**63, 2**64, True, None, "3", 1.5])
_ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "pool": st.sampled_from(["email", "", "absent", "email/0", "\x00", "é" * 300]) | _ANYTHING,
        "workers": _WORKERS,
        "by": st.text(max_size=60) | _ANYTHING,
        "message_id": st.text(max_size=60) | _ANYTHING,
        "unknown": _ANYTHING,
    },
)
_KNOWN = st.builds(lambda verb, arguments: {"verb": verb, **arguments}, st.sampled_from(_HARMLESS), _ARGUMENTS)
_WRONG = st.builds(lambda verb, value: {"verb": verb, "unknown": value}, st.sampled_from(sorted(VERBS)), _ANYTHING)
_REQUESTS = (_KNOWN | _WRONG | _ANYTHING).map(lambda request: json.dumps(request).encode())
_DEEP = st.integers(1, 30_000).map(lambda depth: b'{"verb":' + b"[" * depth + b"]" * depth + b"}")
_LINES = _REQUESTS | _DEEP | st.binary(max_size=300).map(lambda data: data.replace(b"\n", b""))


@pytest.fixture(scope="module")
def abused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("abused"), 'workers = 2\nretry_delays = ["100ms"]') as under_test:
        yield under_test


def raw(under_test: Daemon) -> socket.socket:
    """A bare connection."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(under_test.runtime_dir / "control.sock"))
    sock.settimeout(20.0)
    return sock


# ---- whatever is said -----------------------------------------------------------------------------------------------


@settings(max_examples=120)
@given(st.lists(_LINES, min_size=1, max_size=8), st.sampled_from([7, 1000, 100_000]), st.booleans())
def test_every_line_is_answered_in_words(abused: Daemon, lines: list[bytes], piece: int, cut: bool) -> None:
    """Also when they come in pieces, many at once, or without the end of the last one."""
    said = b"\n".join(lines) + (b"" if cut else b"\n")
    with raw(abused) as sock:
        for start in range(0, len(said), piece):
            sock.sendall(said[start : start + piece])
        sock.shutdown(socket.SHUT_WR)
        answers = [json.loads(answer) for answer in read_to_end(sock).splitlines()]

    assert len(answers) == len(lines) - (cut and lines[-1] == b"")
    for answer in answers:
        assert answer["ok"] or _is_clear(answer["error"]), answer
    assert abused.ask("ping")["pid"]


def _is_clear(error: str) -> bool:
    """Whether a refusal says something, and is not a bug's."""
    return len(error) > 10 and "the daemon failed to answer" not in error and "please report" not in error


def test_nothing_of_this_was_a_bug_for_the_daemon(abused: Daemon) -> None:
    log = abused.log_path.read_text()

    assert "Traceback" not in log
    assert "the control request" not in log
    assert abused.status()["state"] == "running"


# ---- however many they are ------------------------------------------------------------------------------------------


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Room for the sockets of a crowd in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_and_many_slow_clients_do_not_stop_supervision(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, 'workers = 2\nretry_delays = ["100ms"]') as under_test,
        many_descriptors(),
        ExitStack() as stack,
    ):
        master = under_test.status()["pid"]
        before = descriptors(master)
        crowd = [stack.enter_context(raw(under_test)) for _ in range(IDLE)]
        slow = [stack.enter_context(raw(under_test)) for _ in range(SLOW)]
        for sock in slow:
            sock.sendall(b'{"verb": "status"}\n' * 500)
        for number in range(50):
            under_test.send("nothing", message_id=f"m{number}")
        victim = under_test.worker()["pid"]
        began_s = monotonic_s()
        os.kill(victim, signal.SIGKILL)

        record: dict[str, Any] = under_test.exit(pid=victim)
        eventually(lambda: under_test.worker()["state"] == "idle", "its successor waits for work")
        eventually(lambda: len(under_test.marked("done")) >= 50, "every message is done")

        assert record["cause"] == "killed"
        assert monotonic_s() - began_s < 15.0
        assert descriptors(master) <= before + MAX_CONNECTIONS + 8
        assert b"this one was idle longest" in read_line(crowd[0]), "the client that makes room is told so"


def test_clients_that_leave_give_everything_back(abused: Daemon) -> None:
    master = abused.status()["pid"]
    before = descriptors(master)
    for _ in range(300):
        with raw(abused) as sock:
            sock.sendall(b'{"verb": "status"}\n{"verb"')
    assert abused.ask("ping")
    eventually(lambda: descriptors(master) <= before + 2, "every descriptor was closed")
