"""Log lines on their way to a journald that takes them, is slow, too small, or not there."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.logs.journal import TIMEOUT_S, JournalTarget
from supervisor.logs.target import Target
from supervisor.system.clock import monotonic_s

LINE = json.dumps({"level": "error", "event": "pool.held", "message": "no", "process": "consumer a", "pid": 1})


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket where journald's would be."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.settimeout(5.0)
        yield sock


@pytest.fixture
def target(tmp_path: Path) -> Iterator[JournalTarget]:
    """A target that writes there."""
    made = JournalTarget(Target("-").write, str(tmp_path / "socket"))
    yield made
    made.close()


def fill(target: JournalTarget) -> None:
    """Write until journald, which reads nothing, takes no more."""
    with pytest.raises(TimeoutError):
        while True:
            target.write(LINE)


def test_a_line_is_one_entry(journald: socket.socket, target: JournalTarget) -> None:
    target.write(LINE)

    entry = journald.recv(4096).splitlines()
    assert {b"MESSAGE=no", b"PRIORITY=3", b"PREFORKD_EVENT=pool.held", b"PREFORKD_POOL=a"} <= set(entry)


def test_a_journald_that_stands_still_is_waited_for_once_and_briefly(
    journald: socket.socket, target: JournalTarget
) -> None:
    fill(target)
    begun_s = monotonic_s()
    for _ in range(100):
        with pytest.raises(OSError):
            target.write(LINE)

    assert monotonic_s() - begun_s < 10 * TIMEOUT_S, "each line waited again"


def test_once_journald_reads_again_lines_arrive_and_are_waited_for(
    journald: socket.socket, target: JournalTarget
) -> None:
    fill(target)
    journald.recv(4096)
    target.write(LINE)

    begun_s = monotonic_s()
    with pytest.raises(TimeoutError):
        target.write(LINE)
    assert monotonic_s() - begun_s >= TIMEOUT_S * 0.9


def test_a_line_too_long_for_a_datagram_goes_to_stderr(
    journald: socket.socket, target: JournalTarget, capfd: pytest.CaptureFixture[str]
) -> None:
    line = json.dumps(json.loads(LINE) | {"message": "x" * 1_000_000})
    target.write(line)

    written = capfd.readouterr().err
    assert len(written) > 1_000_000
    assert json.loads(written) == json.loads(line)


def test_without_a_journald_lines_go_to_stderr_and_to_the_next_journald(
    tmp_path: Path, target: JournalTarget, capfd: pytest.CaptureFixture[str]
) -> None:
    target.write(LINE)
    assert capfd.readouterr().err == f"{LINE}\n"

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late:
        late.bind(str(tmp_path / "socket"))
        late.settimeout(5.0)
        target.write(LINE)
        assert b"MESSAGE=no\n" in late.recv(4096)
    (tmp_path / "socket").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as restarted:
        restarted.bind(str(tmp_path / "socket"))
        restarted.settimeout(5.0)
        target.write(LINE)
        assert b"MESSAGE=no\n" in restarted.recv(4096)
