"""The writers' end of the log relay: whole lines into the pipe that a daemon's stderr is, and never a wait for it.

Used in every process of a daemon. The pipe's description is shared with programs of users, so it must not be made
non-blocking: it is opened once more through /proc, which gives a description of our own. A line longer than a
pipe takes in one piece goes in several frames; the relay joins them, so lines of several processes never mix.
"""

from __future__ import annotations

import errno
import io
import os
import select
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from os import getpid
from typing import TextIO

from supervisor.logs.relay import FIRST, FRAME_BYTES, HEAD, LINE, MAGIC, MORE, STDERR, STDOUT
from supervisor.system.clock import monotonic_s
from supervisor.system.posix import identity

STREAM_VARIABLE = "PREFORKD_LOG_STREAM"
TIMEOUT_S = 1.0
"""The time for the relay to make room, once: it reads at all times, so only a very busy machine needs it."""

_STDERR_FD = 2
_PAYLOAD_BYTES = FRAME_BYTES - HEAD.size
_PRINTED_BYTES = 256 * 1024


def stream_variable(reader: str) -> str:
    """STREAM_VARIABLE for children of a process whose stderr is the relay's pipe: its `dev:inode`, and `reader`.

    `reader`: the relay's destination, `journal`, `terminal` or `plain`.
    """
    device, inode = identity(_STDERR_FD) or (0, 0)
    return f"{device}:{inode}:{reader}"


def own_reader() -> str | None:
    """The destination of the relay that reads this process's stderr; None if stderr is no pipe of a log relay."""
    variable = os.environ.get(STREAM_VARIABLE, "")
    reader = variable.rpartition(":")[2]
    return reader if variable == stream_variable(reader) else None


class LogPipe:
    """An own descriptor for the pipe behind `standard` (1 or 2).

    User code may close it, and open another file under that number: so it is checked before each write.
    """

    def __init__(self, standard: int = _STDERR_FD) -> None:
        self._standard = standard
        self._identity = identity(standard)
        self._descriptor = -1
        self._timeout_s = TIMEOUT_S

    def send(self, kind: int, text: bytes) -> None:
        """Write a text of this `kind` (a frame's) whole. Raises OSError if the relay does not read it."""
        if identity(self._descriptor) != self._identity:
            self._descriptor = self._reopened()
        try:
            for frame in frames(kind, getpid(), text):
                self._write(frame)
        except BlockingIOError:
            self._timeout_s = 0.0  # no more waiting until the relay reads again
            raise OSError(errno.EAGAIN, "the log relay took nothing") from None
        self._timeout_s = TIMEOUT_S

    def write(self, line: str) -> None:
        """Send one log `line`. Raises OSError as `send`."""
        self.send(LINE, line.encode(errors="backslashreplace") + b"\n")

    def close(self) -> None:
        """Close the descriptor; the next text opens one again."""
        if self._descriptor >= 0 and identity(self._descriptor) == self._identity:
            os.close(self._descriptor)
        self._descriptor = -1

    def _reopened(self) -> int:
        """A non-blocking description of the pipe; without /proc, a descriptor of the shared one."""
        if identity(self._standard) != self._identity:
            raise OSError(errno.EBADF, f"descriptor {self._standard} was closed or leads elsewhere now")
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            return os.open(f"/proc/self/fd/{self._standard}", flags)
        return os.dup(self._standard)

    def _write(self, frame: bytes) -> None:
        """Write one frame atomically, and wait for room up to the timeout. Raises BlockingIOError."""
        until_s: float | None = None
        while True:
            with suppress(BlockingIOError):
                os.write(self._descriptor, frame)
                return
            now_s = monotonic_s()
            until_s = now_s + self._timeout_s if until_s is None else until_s
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            if not poll.poll(max(0.0, until_s - now_s) * 1000):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def frames(kind: int, pid: int, text: bytes) -> Iterator[bytes]:
    """A text of this `kind` as frames for the relay."""
    last = max(0, len(text) - 1) // _PAYLOAD_BYTES
    for number in range(last + 1):
        payload = text[number * _PAYLOAD_BYTES : (number + 1) * _PAYLOAD_BYTES]
        flags = kind | (0 if number else FIRST) | (MORE if number < last else 0)
        yield HEAD.pack(MAGIC, len(payload), pid, flags) + payload


# ---- printed text ---------------------------------------------------------------------------------------------------


class _Printed(io.BufferedIOBase):
    """A stream of text: it sends whole lines, without waiting. `fileno`: the standard descriptor."""

    def __init__(self, standard: int, kind: int) -> None:
        self._standard = standard
        self._kind = kind
        self._pipe = LogPipe(standard)
        self._pieces: deque[bytes] = deque()  # taken one by one: a signal's handler may print during a print
        self._size = 0
        self._lost = 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._standard

    @property
    def name(self) -> str:
        return f"<{'stdout' if self._kind == STDOUT else 'stderr'}>"

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Keep `data` until a line is complete, `flush` is called, or there is much of it."""
        self._pieces.append(bytes(data))
        self._size += len(data)
        if self._size > _PRINTED_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Send the buffered lines; lines that the relay does not read are counted and reported later."""
        self._size, pieces = 0, []
        with suppress(IndexError):
            while True:
                pieces.append(self._pieces.popleft())
        data = b"".join(pieces)
        if not data:
            return
        try:
            if self._lost:
                told = f"preforkd: {self._lost} printed line(s) were lost because the log relay took nothing\n"
                self._pipe.send(self._kind, told.encode())
                self._lost = 0
            self._pipe.send(self._kind, data)
        except OSError:
            self._lost += data.count(b"\n") or 1


def relayed_text() -> tuple[TextIO, TextIO] | None:
    """Streams that send text to the log relay whole, for stdout and stderr; None if stderr is not the relay's pipe."""
    if own_reader() is None:
        return None
    return _text(_Printed(1, STDOUT)), _text(_Printed(_STDERR_FD, STDERR))


def _text(printed: _Printed) -> io.TextIOWrapper:
    return io.TextIOWrapper(printed, encoding="utf-8", errors="backslashreplace", line_buffering=True)
