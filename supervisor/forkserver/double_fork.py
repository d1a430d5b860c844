"""The double fork: makes a worker that is the master's own child, and is named in its slot before it can be reaped.

forkserver -> intermediate -> worker. Both are forked ahead and wait: the worker, a standby until then, for its order
(slot and generation), the intermediate for the worker's answer. The worker takes its slot and answers; only then the
intermediate reports the worker's pid to the forkserver and exits, and the worker's parent is the master (prctl(2)
PR_SET_CHILD_SUBREAPER). Before that answer each process dies with its parent, so the master never inherits a live
process without a slot.
Runs in the forkserver, which must never block forever: each of its waits is bounded, and the intermediate kills a
worker that does not answer in time.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from os import _exit as leave
from os import close, fork, getpid, kill, pidfd_open, pipe, read, sched_setscheduler, waitpid, write
from select import PIPE_BUF, POLLIN
from select import poll as new_poll
from typing import NoReturn

from supervisor.system import posix
from supervisor.system.reactor import HasFileno

Worker = Callable[["ForkHandshake"], NoReturn]

_WORD_S = 4.0
_REPORT_S = 1.0
_ADOPTION_S = 10.0
_ORDER = struct.Struct("<II")
_PID = struct.Struct("<i")
_REFUSED, _DIED = 0, -1  # in place of a pid
_TEXT_BYTES = 2048  # with the pid far below PIPE_BUF: a report is written whole


@dataclass(frozen=True)
class ForkHandshake:
    """A worker's side of the double fork: receives the order, answers once, waits until the master is its parent."""

    parent_pid: int
    _parent: int  # a pidfd: a pid may be reused
    _order: int
    _word: int

    @property
    def is_needed(self) -> bool:
        """Whether the order is there already."""
        return posix.readable(self._order, 0.0)

    def await_order(self, wake: HasFileno) -> tuple[int, int] | None:
        """Wait for slot and generation; None if no worker is needed, or a signal came (`wake` is readable)."""
        poll = new_poll()
        poll.register(self._order, POLLIN)
        poll.register(wake, POLLIN)
        ready = [number for number, _events in poll.poll()]
        order = read(self._order, _ORDER.size) if self._order in ready else b""
        if not order:
            return None
        slot, generation = _ORDER.unpack(order)
        return slot, generation

    def settled(self) -> None:
        """Report that the slot names this process: the intermediate then exits. Raises OSError if it is gone."""
        posix.outlive_parent()
        self._say(b"\0")

    def refused(self, reason: str) -> None:
        """Report why the slot could not be taken; the worker must then exit. Raises OSError as `settled`."""
        self._say(b"\1" + reason.encode(errors="replace")[:_TEXT_BYTES])

    def await_adoption(self) -> None:
        """Wait until the intermediate has ended and the master is the parent, or is gone. Raises RuntimeError."""
        if not posix.readable(self._parent, _ADOPTION_S):
            raise RuntimeError(f"the intermediate process {self.parent_pid} does not end")
        close(self._parent)

    def _say(self, word: bytes) -> None:
        write(self._word, word)
        close(self._word)
        close(self._order)


class NoWorker(Exception):
    """No worker could be forked; the text says why."""


class StandbyEnded(NoWorker):
    """The standby ended before it had its slot, perhaps before its order: another worker may be forked."""


_FAILURES = {_REFUSED: NoWorker, _DIED: StandbyEnded}


class DoubleFork:
    """An intermediate and its standby, forked and waiting. Ended by exactly one of `assign` and `dismiss`."""

    def __init__(self, worker: Worker, forget: Callable[[], None] = lambda: None) -> None:
        """Fork `worker` (which never returns) twice. `forget()` closes, in the children, what belongs to the forkserver
        alone. Raises NoWorker if there is no process or descriptor left."""
        forkserver_pid = getpid()
        opened: list[int] = []
        try:
            self._report, report = _pipe(opened)
            order, self._order = _pipe(opened)
            self._intermediate_pid = _fork()
        except NoWorker:
            _close(opened)
            raise
        if self._intermediate_pid == 0:
            close(self._report)
            close(self._order)
            _be_intermediate(worker, forget, order, report, forkserver_pid)
        close(report)
        close(order)

    def fileno(self) -> int:
        """Readable once the intermediate has reported or ended; for a poll object."""
        return self._report

    @property
    def is_over(self) -> bool:
        """Whether it has ended without an order."""
        return posix.readable(self._report, 0.0)

    def assign(self, slot: int, generation: int) -> int:
        """Let the standby take this slot; returns its pid. Raises NoWorker, StandbyEnded."""
        failure: type[NoWorker] = NoWorker  # it may have the slot: no second worker may get this generation (I3)
        try:
            write(self._order, _ORDER.pack(slot, generation))
        except BrokenPipeError:  # both have ended; a report, if there is one, has the reason
            failure = StandbyEnded
        # fail-point: forkserver.assigned: the standby has its order, and may take the slot
        report = self._conclude(_WORD_S)
        if not report:
            raise failure(f"the intermediate process (pid {self._intermediate_pid}) died or did not answer")
        (pid,) = _PID.unpack_from(report)
        if pid in _FAILURES:
            raise _FAILURES[pid](_reason(report))
        return int(pid)

    def dismiss(self) -> str:
        """End it unused; returns how it ended."""
        report = self._conclude(0.0)
        return _reason(report) if report else f"the intermediate process (pid {self._intermediate_pid}) died"

    def _conclude(self, wait_s: float) -> bytes:
        """The report of the intermediate, which then exits; b"" if it died or had to be killed."""
        report = _hear(self._report, wait_s)
        close(self._order)  # the time is over: the intermediate kills a worker that has not answered
        report = report or _hear(self._report, _REPORT_S)
        close(self._report)
        if not report:
            kill(self._intermediate_pid, signal.SIGKILL)
        waitpid(self._intermediate_pid, 0)
        return report


# ---- the intermediate -----------------------------------------------------------------------------------------------


def _be_intermediate(
    worker: Worker, forget: Callable[[], None], order: int, report: int, forkserver_pid: int
) -> NoReturn:
    """Fork the worker, wait for its answer, report it, exit. User code's exit callbacks must not run here."""
    try:
        if posix.die_with_parent(signal.SIGKILL, forkserver_pid):
            forget()
            write(report, _start_worker(worker, order, report))
            # fail-point: intermediate.reported: the forkserver is told, the worker is still a child of this process
    finally:
        leave(0)


def _start_worker(worker: Worker, order: int, report: int) -> bytes:
    # fail-point: intermediate.born: between the first and the second fork
    intermediate_pid = getpid()
    opened: list[int] = []
    try:
        heard, word = _pipe(opened)
        pid = _fork()
    except NoWorker as error:
        _close(opened)
        return _failure(_REFUSED, str(error))
    if pid == 0:
        close(heard)
        close(report)
        _be_standby(worker, intermediate_pid, order, word)
    close(word)
    sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # must not hold up the worker
    # fail-point: intermediate.forked: the worker is forked and has not answered
    said = _await_word(heard, order)
    if said == b"\0":
        # fail-point: intermediate.settled: the worker has its slot, the forkserver does not know
        return _PID.pack(pid)
    if said is None:
        kill(pid, signal.SIGKILL)
    _, status = waitpid(pid, 0)
    if said is None:
        return _failure(_REFUSED, f"the worker has not taken its slot in time ({_WORD_S:g} s) and was killed")
    if said:
        return _failure(_REFUSED, said[1:].decode(errors="replace"))
    return _failure(_DIED, _ending(os.waitstatus_to_exitcode(status)))


def _await_word(heard: int, order: int) -> bytes | None:
    """The worker's answer; b"" if it has ended without one, None if the forkserver waits no longer."""
    poll = new_poll()
    poll.register(heard, POLLIN)
    poll.register(order, 0)  # only for the hang-up when the forkserver has closed its end
    ready = [number for number, _events in poll.poll()]
    return read(heard, PIPE_BUF) if heard in ready else None


def _ending(code: int) -> str:
    how = f"by {posix.signal_name(-code)}" if code < 0 else f"with status {code}"
    return f"the worker did not take its slot and ended {how}"


def _be_standby(worker: Worker, intermediate_pid: int, order: int, word: int) -> NoReturn:
    if posix.die_with_parent(signal.SIGKILL, intermediate_pid):
        worker(ForkHandshake(intermediate_pid, pidfd_open(intermediate_pid), order, word))
    leave(os.EX_OK)


# ---- pieces ---------------------------------------------------------------------------------------------------------


def _fork() -> int:
    try:
        return fork()
    except OSError as error:
        raise NoWorker(f"fork failed: {error.strerror}") from error


def _pipe(opened: list[int]) -> tuple[int, int]:
    """Read and write end of a new pipe, added to `opened`."""
    try:
        ends = pipe()
    except OSError as error:
        raise NoWorker(f"no pipe: {error.strerror}") from error
    opened += ends
    return ends


def _close(opened: list[int]) -> None:
    for end in opened:
        close(end)


def _failure(kind: int, reason: str) -> bytes:
    return _PID.pack(kind) + reason.encode(errors="replace")[:_TEXT_BYTES]


def _reason(report: bytes) -> str:
    return report[_PID.size :].decode(errors="replace")


def _hear(descriptor: int, timeout_s: float) -> bytes:
    """The bytes of one write to a pipe; b"" at its end, or after the timeout."""
    return read(descriptor, PIPE_BUF) if posix.readable(descriptor, timeout_s) else b""
