"""The process of a command: its standard descriptors, and the signals that end it.

A command may be started with some of 0, 1 and 2 closed (`preforkd start <&- >&- 2>&-`). The next file or socket that
is opened would have such a number, and what is printed or logged would land in it. A command in the foreground ends
the processes that it has started, by whichever signal it is ended itself. A signal that the caller ignores (`nohup`, a
background job of a shell) stays ignored.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_TIMEOUT_S = 2.0
_PIECE = select.PIPE_BUF // 4  # characters: never more than a pipe that is ready takes

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals by which a person, a service manager or a closed terminal ends a command."""


def open_standard() -> None:
    """Let what is closed of stdin, stdout, stderr be /dev/null. Text that their encoding lacks is written escaped."""
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number that is free: this one
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(_STDIN, closefd=False))
    sys.stdout = _printing(sys.stdout or _writer(_STDOUT))
    sys.stderr = _printing(sys.stderr or _writer(_STDERR))


def say_error(text: str) -> None:
    """Print to stderr, but do not wait for ever for its reader: a failed command must be able to end."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    with suppress(OSError):
        for begin in range(0, len(text) + 1, _PIECE):
            if poll.poll(_TIMEOUT_S * 1000):
                sys.stderr.write((text + "\n")[begin : begin + _PIECE])
                sys.stderr.flush()


def discard_output() -> None:
    """Discard the rest of the output: its reader has gone, or it cannot be written."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _writer(number: int) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), line_buffering=True)


def _printing(stream: TextIO) -> TextIO:
    with suppress(AttributeError, ValueError):  # replaced by the caller, as tests do
        stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
    return stream


@contextmanager
def interrupted_by(numbers: Sequence[signal.Signals]) -> Iterator[None]:
    """Let these signals raise KeyboardInterrupt, as Ctrl-C does: what must be ended is ended on the way out."""
    with _handling(numbers, signal.default_int_handler):
        yield


@contextmanager
def unmoved_by(numbers: Sequence[signal.Signals]) -> Iterator[None]:
    """Ignore these signals: for an end that takes a bounded time and must not be cut short (a second Ctrl-C)."""
    with _handling(numbers, signal.SIG_IGN):
        yield


@contextmanager
def _handling(numbers: Sequence[signal.Signals], handler: Callable[..., Any] | signal.Handlers) -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in numbers}
    for number, before in former.items():
        if before is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)
