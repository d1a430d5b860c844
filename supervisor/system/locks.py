"""Locks of fcntl(2): a lock file for as long as its holder lives, and the kernel's word on who holds a lock. No policy.

Open-file-description locks (fcntl(2), F_OFD_SETLK): like flock they hold between two users within one process, too,
and unlike flock one can ask who holds one without taking it for a moment from somebody who is just starting.
Only for processes that never fork: a forked child would keep the lock (consumer and command line).
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from os import getpid
from pathlib import Path

_FLOCK = struct.Struct("hhqqi4x")  # struct flock on 64-bit Linux: type, whence, start, length, pid (0 for OFD locks)
_WHOLE_FILE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class LockHeld(Exception):
    """Somebody else holds the lock; `holder` is the pid found in the file, "?" when there is none."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"held by pid {holder}")
        self.holder = holder


class FileLock:
    """An exclusive lock, taken by the constructor. Raises LockHeld, or OSError when the file cannot be opened.

    The file stays behind when the lock is given up: removing it would let two processes lock two different files.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except OSError as error:
            holder = _pid_in(self._descriptor)
            self.close()
            if isinstance(error, BlockingIOError | PermissionError):
                raise LockHeld(holder) from None
            raise
        self._write_pid()

    def close(self) -> None:
        """Give the lock up; twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write_pid(self) -> None:
        with suppress(OSError):  # a full disk: the lock is held all the same, only its holder has no name
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(getpid()).encode(), 0)


def lock(descriptor: int) -> bool:
    """Take the POSIX lock of an open file for this process; False when another one has it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def lock_owner(descriptor: int) -> int | None:
    """The pid of the other process that holds the POSIX lock of an open file, or None (fcntl(2), F_GETLK)."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer: bytes = fcntl.fcntl(descriptor, fcntl.F_GETLK, question)
    kind, _whence, _start, _length, pid = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else pid


def lock_holder(path: Path) -> str | None:
    """The pid of whoever holds the lock on `path` ("?" when unknown), None when it is free. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _WHOLE_FILE)
        return None if _FLOCK.unpack(answer)[0] == fcntl.F_UNLCK else _pid_in(descriptor)
    finally:
        os.close(descriptor)


def _pid_in(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "?"
