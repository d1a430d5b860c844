"""What waits in the sockets of other processes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import termios
from contextlib import suppress
from pathlib import Path

_PIDFD_GETFD = 438  # the same number on every machine
_INT = struct.Struct("i")
_libc = ctypes.CDLL(None, use_errno=True)


def unread_bytes(pid: int) -> int:
    """How many bytes have arrived at the sockets of this process, which it has not read (pidfd_getfd(2), FIONREAD)."""
    process = os.pidfd_open(pid)
    try:
        sockets = [entry for entry in Path(f"/proc/{pid}/fd").iterdir() if str(entry.readlink()).startswith("socket:")]
        return sum(_unread(process, int(entry.name)) for entry in sockets)
    finally:
        os.close(process)


def _unread(process: int, number: int) -> int:
    descriptor = _libc.syscall(_PIDFD_GETFD, process, number, 0)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    try:
        with suppress(OSError):  # one that listens has nothing to read
            found: int = _INT.unpack(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(_INT.size)))[0]
            return found
        return 0
    finally:
        os.close(descriptor)
