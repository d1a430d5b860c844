"""Locks on files, in three flavours, each for what only it can do. The kernel drops all of them when the holder dies.

- POSIX, fcntl(2) F_SETLK (`lock`, `lock_owner`): the kernel names the holder, and a fork does not inherit it. It ends
  when its process closes any descriptor of the file. Slots, and with `lock_apart` the files of a daemon.
- Of an open file, fcntl(2) F_OFD_SETLK (`FileLock`, `lock_holder`): holds within one process, too, and can be asked for
  without being taken. Ledgers, embedded queue, permits: processes that never fork, as a fork would keep it.
- flock(2) (`lock_apart`): holds within one process beside a POSIX lock.
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
    """Another holder has the lock; `holder` is the pid found in the file, "?" when there is none."""

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
        with suppress(OSError):  # a full disk: the lock is held, only its holder has no name
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(getpid()).encode(), 0)


def lock(descriptor: int) -> bool:
    """Take the POSIX lock of the file behind `descriptor`; False when another process has it. Raises OSError."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def lock_apart(descriptor: int) -> bool:
    """Take the flock and the POSIX lock of the file behind `descriptor`; False when either is held. Raises OSError."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock(descriptor)
    return False


def lock_owner(descriptor: int) -> int | None:
    """The pid of the other process with the POSIX lock of the file behind `descriptor`, or None (F_GETLK)."""
    answer: bytes = fcntl.fcntl(descriptor, fcntl.F_GETLK, _WHOLE_FILE)
    kind, _whence, _start, _length, pid = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else pid


def lock_holder(path: Path) -> str | None:
    """The pid of the holder of the lock on `path` ("?" when unknown), None when it is free. Raises OSError."""
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
