"""Keeps descriptors 0, 1 and 2, and sys.stdout and sys.stderr, usable in processes that run user code.

Used by forkservers and workers. After descriptor 2 is closed, the next file that user code opens gets this number, and
log lines and tracebacks would be written to it. An open replacement of `sys.stdout` by user code is left alone.
"""

from __future__ import annotations

import io
import os
import sys
from os import close, dup, dup2
from typing import Any

from supervisor.system import posix
from supervisor.system.posix import identity

_NAMES = {1: "stdout", 2: "stderr"}
_FILE_MODES = {0: os.O_RDONLY, 1: os.O_WRONLY, 2: os.O_WRONLY}


class StandardStreams:
    """The files of descriptors 0, 1 and 2 when this object is made (/dev/null for a closed one); copies 1 and 2."""

    def __init__(self) -> None:
        self._copies: dict[int, int] = {}
        self._identities: dict[int, tuple[int, int] | None] = {}
        for number in _FILE_MODES:
            self._save(number)

    def restore(self) -> None:
        """Restore each descriptor, and closed `sys.stdout` and `sys.stderr`."""
        for number, former in self._identities.items():
            if identity(number) != former:
                self._put_back(number)
        for number, name in _NAMES.items():
            if _is_closed(getattr(sys, name, None)):
                setattr(sys, name, _stream(number))

    def close(self) -> None:
        """Close the copies."""
        for number, copy in self._copies.items():
            if identity(copy) == self._identities[number]:  # else user code has closed it
                close(copy)

    def _save(self, number: int) -> None:
        if identity(number) is None:
            _open_null(number)
        if number in _NAMES:
            self._copies[number] = posix.move_up(dup(number))
        self._identities[number] = identity(number)

    def _put_back(self, number: int) -> None:
        copy = self._copies.get(number)
        if copy is not None and identity(copy) == self._identities[number]:
            dup2(copy, number)
        elif copy is None or identity(number) is None:
            _open_null(number)


def _open_null(number: int) -> None:
    null = os.open(os.devnull, _FILE_MODES[number])
    if null != number:
        dup2(null, number)
        close(null)
    os.set_inheritable(number, True)


def _is_closed(stream: Any) -> bool:
    """Whether the stream is closed. An object of user code may have any attributes."""
    try:
        return stream is None or stream.closed is True
    except Exception:  # noqa: BLE001  (an object of user code)
        return False


def _stream(number: int) -> io.TextIOWrapper:
    raw = io.FileIO(number, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)
