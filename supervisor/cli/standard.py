"""The standard descriptors, made fit for use before anything else is opened.

A command may be started with some of 0, 1 and 2 closed (`preforkd start <&- >&- 2>&-`). The next file or socket that
is opened would have such a number, and what is printed or logged would land in it.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_TIMEOUT_S = 2.0
_PIECE = select.PIPE_BUF // 4  # characters: never more than a pipe that is ready takes


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
