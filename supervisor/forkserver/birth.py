"""The double fork: makes a worker that is the master's own child, and is named in its slot before anyone can reap it.

forkserver -> intermediate -> worker. The worker takes its slot and says so through a pipe; only then does the
intermediate tell the forkserver the worker's pid and exit, whereupon the worker's parent is the master (a child
subreaper). Runs in the forkserver, which must never block for ever here: every wait is bounded, and a worker that
does not speak in time is ended by the intermediate, its parent.
"""

from __future__ import annotations

import os
import select
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from supervisor import posix

Worker = Callable[["Cradle"], NoReturn]

_WORD_S = 4.0
_REPORT_S = _WORD_S + 1.0
_PID = struct.Struct("<i")
_TEXT_BYTES = 2048  # with the pid far below PIPE_BUF: a report is written whole


@dataclass(frozen=True)
class Cradle:
    """What a new worker knows of its birth. `parent_pid`: the intermediate's, until it has the worker's word."""

    parent_pid: int
    _word: int

    def settled(self) -> None:
        """Say that the slot is ours and names us: the intermediate leaves. OSError: it is gone."""
        self._say(b"\0")

    def refused(self, reason: str) -> None:
        """Say why there is no slot for us; we must leave then."""
        self._say(b"\1" + reason.encode(errors="replace")[:_TEXT_BYTES])

    def _say(self, word: bytes) -> None:
        os.write(self._word, word)
        os.close(self._word)


class NotBorn(Exception):
    """There is no new worker; the text says why."""


def give_birth(worker: Worker) -> int:
    """Fork `worker` (which never returns) twice; its pid, once it has its slot. Raises NotBorn."""
    report_read, report_write = os.pipe()
    forkserver_pid = os.getpid()
    intermediate_pid = _fork((report_read, report_write))
    if intermediate_pid == 0:
        os.close(report_read)
        _be_intermediate(worker, report_write, forkserver_pid)
    os.close(report_write)
    report = _read_within(report_read, _REPORT_S)
    if not report:
        os.kill(intermediate_pid, signal.SIGKILL)
    os.waitpid(intermediate_pid, 0)  # it has reported, which is its last act, or was killed
    if not report:
        raise NotBorn(f"the intermediate process (pid {intermediate_pid}) died or did not answer")
    (pid,) = _PID.unpack_from(report)
    if pid == 0:
        raise NotBorn(report[_PID.size :].decode(errors="replace"))
    return int(pid)


def _fork(pipe: tuple[int, int]) -> int:
    try:
        return os.fork()
    except OSError as error:
        for descriptor in pipe:
            os.close(descriptor)
        raise NotBorn(f"fork failed: {error.strerror}") from error


def _be_intermediate(worker: Worker, report: int, forkserver_pid: int) -> NoReturn:
    """Fork the worker, wait for its word, pass it on, exit. User code's exit callbacks must not run here."""
    try:
        posix.die_with_parent(signal.SIGKILL, forkserver_pid)
        os.write(report, _bring_up(worker, report))
        # fail-point: intermediate.reported: the forkserver is told, the worker is still ours
    finally:
        os._exit(0)


def _bring_up(worker: Worker, report: int) -> bytes:
    # fail-point: intermediate.born: between the first and the second fork
    word_read, word_write = os.pipe()
    cradle = Cradle(os.getpid(), word_write)
    try:
        pid = _fork((word_read, word_write))
    except NotBorn as error:
        return _failure(str(error))
    if pid == 0:
        os.close(word_read)
        os.close(report)
        worker(cradle)
    os.close(word_write)
    # fail-point: intermediate.forked: the worker is born and has not spoken
    word = _read_within(word_read, _WORD_S)
    if word == b"\0":
        # fail-point: intermediate.settled: the worker has its slot, the forkserver does not know
        return _PID.pack(pid)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return _failure(word[1:].decode(errors="replace") if word else _silence(os.waitstatus_to_exitcode(status)))


def _silence(code: int) -> str:
    how = f"by {posix.signal_name(-code)}" if code < 0 else f"with status {code}"
    return f"the worker did not take its slot within {_WORD_S:g} s and ended {how}"


def _failure(reason: str) -> bytes:
    return _PID.pack(0) + reason.encode(errors="replace")[:_TEXT_BYTES]


def _read_within(descriptor: int, timeout_s: float) -> bytes:
    """What is written to a pipe in one piece; b"" when nothing comes in time. Closes the pipe."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    try:
        return os.read(descriptor, select.PIPE_BUF) if poll.poll(timeout_s * 1000) else b""
    finally:
        os.close(descriptor)
