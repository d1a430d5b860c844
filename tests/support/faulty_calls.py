"""System calls of a master that fail when a test says so: which ones there are, and the errors each can have.

`CALLS` is the whole table: every call in the master's own sources is in it, with the errors of its manual page that a
machine, a disk or a container can bring about. A test compares it with the sources. In the daemon under test
(`faulty_daemon.py`) the same names are wrapped; what fails next is written into a small file that both have mapped.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

_FILES = ("EIO", "EMFILE", "ENFILE", "ENOENT", "EACCES", "EROFS", "ENOSPC")
_WRITES = ("ENOSPC", "EIO", "EDQUOT", "EFBIG", "EROFS")
_DESCRIPTORS = ("EMFILE", "ENFILE", "ENOMEM")

CALLS: dict[str, tuple[str, ...]] = {
    "os.close": ("EIO",),
    "os.fchmod": ("EPERM", "EROFS"),
    "os.fstat": ("EIO", "ENOMEM"),
    "os.ftruncate": ("EIO",),
    "os.kill": ("EPERM", "ESRCH"),
    "os.killpg": ("EPERM", "ESRCH"),
    "os.link": ("ENOSPC", "EROFS", "EPERM"),
    "os.open": _FILES,
    "os.pidfd_open": ("EMFILE", "ENFILE", "ENOSYS", "EPERM", "ESRCH"),
    "os.pipe2": _DESCRIPTORS,
    "os.posix_fallocate": ("ENOSPC", "EIO", "EOPNOTSUPP"),
    "os.posix_spawn": ("EAGAIN", "ENOMEM", "ENOENT", "EACCES"),
    "os.pread": ("EIO",),
    "os.pwrite": _WRITES,
    "os.read": ("EIO",),
    "os.replace": _WRITES,
    "os.mkdir": ("ENOSPC", "EROFS", "EACCES"),
    "os.scandir": ("EMFILE", "EACCES", "ENOENT"),
    "os.listdir": ("EMFILE", "EACCES"),
    "os.stat": ("EIO", "EACCES", "ENOENT"),
    "os.statvfs": ("EIO",),
    "os.unlink": ("EROFS", "EACCES", "EIO"),
    "os.write": _WRITES,
    "io.open": _FILES,
    "fcntl.fcntl": ("ENOLCK", "EIO"),
    "signal.pidfd_send_signal": ("EPERM", "ESRCH"),
    "socket.socket": _DESCRIPTORS,
    "socket.socketpair": _DESCRIPTORS,
    "socket.send_fds": ("ENOBUFS", "ENOMEM", "EPIPE", "ECONNRESET", "ETOOMANYREFS", "EAGAIN", "EPERM"),
}
"""By the name that the sources call it by (`pathlib` calls those of `os` and `io`)."""

AT_THE_START_ONLY = {
    "os.setgroups": "root is given up",
    "os.setresgid": "root is given up",
    "os.setresuid": "root is given up",
    "os.getgrouplist": "root is given up",
    "os.sysconf": "constants of the machine",
    "os.getcwd": "the configuration is found",
    "fcntl.flock": "the locks are taken",
    "resource.getrlimit": "whether descendants can be marked",
    "resource.setrlimit": "in forkserver and worker",
    "select.epoll": "the loop is made",
    "setproctitle.setproctitle": "the title is set",
    "signal.pthread_sigmask": "signals are taken",
    "signal.set_wakeup_fd": "signals are taken",
    "signal.signal": "signals are taken",
    "mmap.mmap": "in workers only",
    "fcntl.lockf": "in workers only",
    "os.set_inheritable": "in children only",
    "socket.recv_fds": "in children only",
    "os.dup": "standard streams are taken",
    "os.dup2": "in the log relay, which is a process of its own",
    "os.pipe": "the log relay is started",
    "os.set_blocking": "the log relay is started",
    "os.closerange": "in the log relay",
    "os.access": "the configuration is read",
    "os.fchown": "files are given to the user",
    "os.setegid": "the log is opened as the user",
    "os.seteuid": "the log is opened as the user",
    "os.getgroups": "root is given up",
    "os.path.realpath": "the state directory is named",
}
"""Calls that no running master makes, each with when they are made."""

CANNOT_FAIL = frozenset(
    (
        *("os.WCOREDUMP", "os.WIFSIGNALED", "os.WTERMSIG", "os.fsencode", "os.fsdecode", "os.fspath", "os.strerror"),
        *("os.getpid", "os.getppid", "os.geteuid", "os.getegid", "os.waitstatus_to_exitcode", "os.isatty", "os._exit"),
        *("os.path.join", "os.path.dirname"),
        *("signal.Signals", "signal.valid_signals", "io.TextIOWrapper", "io.BufferedWriter"),
    )
)
"""No system call, or one without errors."""

REAPING = {
    "os.wait4": "a zombie that waitid(2) has just shown is there until it is waited for",
    "os.waitid": "ECHILD is no failure; EINTR is Python's",
    "select.select": "EINTR is Python's",
    "select.poll": "EINTR is Python's",
}

PATH_METHODS = {
    "exists": "os.stat",
    "glob": "os.scandir",
    "iterdir": "os.listdir",
    "mkdir": "os.mkdir",
    "open": "io.open",
    "read_bytes": "io.open",
    "read_text": "io.open",
    "replace": "os.replace",
    "resolve": "os.stat",
    "stat": "os.stat",
    "unlink": "os.unlink",
}
"""What a method of a path calls."""

_BYTES = 64


class Order:
    """What fails next, in the mapped file of a daemon: `NAME ERRNO TIMES`, TIMES 0 meaning always. "" for nothing."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)

    def give(self, name: str, error: str, times: int) -> None:
        """Let this call fail."""
        self._write(f"{name} {getattr(errno, error)} {times}")

    def take_back(self) -> None:
        """Let everything succeed again."""
        self._write("")

    @property
    def fired(self) -> bool:
        """Whether a call has failed since the order was given."""
        return self._map[_BYTES - 1] != 0

    def take(self, name: str) -> int:
        """The error that this call has now; 0 for none."""
        words = bytes(self._map[: _BYTES - 1]).rstrip(b"\0").decode().split()
        if not words or words[0] != name:
            return 0
        if words[2] == "1":
            self._map[: _BYTES - 1] = bytes(_BYTES - 1)
        self._map[_BYTES - 1] = 1
        return int(words[1])

    def _write(self, text: str) -> None:
        self._map[:] = text.encode().ljust(_BYTES, b"\0")


def failure(number: int) -> OSError:
    """The OSError of this number, of the class that Python gives it."""
    return OSError(number, os.strerror(number))
