"""The locks that keep daemons apart, and the PID file that says which daemon it is. Master; the CLI reads it.

Both locks are flock(2), held for the daemon's life and dropped by the kernel at its death, so a stale file never blocks
a start. The PID file carries pid and start time: a pid that was given to another program is never taken for the daemon.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from supervisor import posix
from supervisor.errors import StateError
from supervisor.master import files

PID_FILE = "preforkd.pid"
STATE_LOCK = "lock"


class Holder(NamedTuple):
    """A process, by pid and start time (clock ticks since boot)."""

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """Whether that very process is there, and not just waiting to be reaped."""
        return posix.start_ticks(self.pid) == self.start_ticks and not posix.is_zombie(self.pid)


class LockFile:
    """A file locked by this process, with its pid and start time in it."""

    def __init__(self, path: Path, what: str) -> None:
        """Lock `path`; `what` is what the lock stands for. Raises StateError: held by somebody else, not writable."""
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StateError(f"{path}: cannot be opened: {error.strerror}; remove it, or correct its owner") from error
        try:
            self._lock(what)
        except OSError as error:
            os.close(self._descriptor)
            raise StateError(f"{path}: cannot be written: {error.strerror}; free some space") from error
        except StateError:
            os.close(self._descriptor)
            raise

    def _write(self) -> None:
        pid = os.getpid()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        files.write_all(self._descriptor, b"%d %d\n" % (pid, posix.start_ticks(pid) or 0))

    def release(self, remove: bool) -> None:
        """Give the lock up; `remove` the file first, while it is still ours."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _lock(self, what: str) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = read_holder(self._path)
            who = f"pid {holder.pid}" if holder else "another process"
            raise StateError(
                f"{what} is in use by {who} (lock {self._path}); `preforkd status` shows it, "
                "`preforkd stop` ends it, or choose another directory"
            ) from None
        if not _same(self._descriptor, self._path):
            raise StateError(f"{self._path}: another daemon has just stopped or started here; try again")
        self._write()


def read_holder(path: Path) -> Holder | None:
    """Who is written in a lock file; None when it is missing or holds nothing of ours."""
    try:
        pid, ticks = path.read_bytes().split()
        return Holder(int(pid), int(ticks))
    except (OSError, ValueError):
        return None


def _same(descriptor: int, path: Path) -> bool:
    """Whether the file we locked is still the one at its path (its last holder removes it)."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
