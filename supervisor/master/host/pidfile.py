"""The locks that keep daemons apart, and the PID file that says which daemon it is. Master; the CLI reads it.

Two locks on each file, so that a stale file never blocks a start: flock(2) keeps daemons apart, also within one
process; the kernel names the holder of a lock of fcntl(2). A third one is on the directory's name. The number in the
file is for people (`kill $(cat preforkd.pid)`): it may be old, or written by another user. No process is signalled
because of it.
"""

from __future__ import annotations

import os
import socket
import stat
from _blake2 import blake2b  # hashlib brings OpenSSL, 0.7 MiB of memory
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from supervisor.errors import StateError, what_helps
from supervisor.master.host import files
from supervisor.system import posix
from supervisor.system.listening import peer_of
from supervisor.system.locks import lock_apart, lock_owner

PID_FILE = "preforkd.pid"
STATE_LOCK = "lock"

_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""A link is not followed, and a FIFO not waited for."""


class Holder(NamedTuple):
    """The process that holds a lock, by pid and start time (clock ticks since boot)."""

    pid: int
    start_ticks: int


class LockFile:
    """A file locked by this process, with its pid in it, until the context is left.

    The process must not open the file a second time: to close that would drop the lock of fcntl(2).
    """

    def __init__(self, path: Path, what: str, remove: bool = False) -> None:
        """Lock `path`. `what`: what the lock stands for; `remove`: the file goes with the lock.

        Raises StateError: held by another process, not writable.
        """
        self._path = path
        self._remove = remove
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _OPEN, 0o644)
        except OSError as error:
            hint = what_helps(error, "remove it, or correct its owner")
            raise StateError(f"{path}: cannot be opened: {error.strerror}; {hint}") from error
        try:
            self._lock(what)
        except OSError as error:
            os.close(self._descriptor)
            raise StateError(f"{path}: cannot be written: {error.strerror}; free some space") from error
        except StateError:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._remove:
            self._path.unlink(missing_ok=True)  # while it is still ours
        os.close(self._descriptor)

    def _lock(self, what: str) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise StateError(f"{self._path}: this is not a file; remove it")
        if not lock_apart(self._descriptor):
            pid = lock_owner(self._descriptor)
            raise StateError(
                f"{what} is in use by {f'pid {pid}' if pid else 'another process'} (lock {self._path}); "
                "`preforkd status` shows it, `preforkd stop` ends it, or choose another directory"
            )
        if not _same(self._descriptor, self._path):
            raise StateError(f"{self._path}: another daemon has just stopped or started here; try again")
        os.ftruncate(self._descriptor, 0)
        files.write_all(self._descriptor, b"%d\n" % os.getpid())


class NameLock:
    """The name of `directory`, links resolved, for as long as this process lives or until the context is left.

    A deleted directory takes its lock files with it: its daemon goes on without them, and a new daemon would find no
    lock. An abstract socket (unix(7)) is a name in the kernel, which no deleted file can break.
    Names are those of our user, in our network and pid namespaces: containers on the host's network have directories
    of the same name. Raises StateError: another daemon has it. A process of another user that has the name does not
    keep a daemon from starting: the lock files are there, too.
    """

    def __init__(self, directory: Path, what: str) -> None:
        """`what`: the thing that is locked, as in `the state directory /var/lib/preforkd`."""
        digest = blake2b(os.fsencode(os.path.realpath(directory)), digest_size=16)
        digest.update(_pid_namespace())
        address = f"\0preforkd-{os.geteuid()}-{digest.hexdigest()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(address)
            self._socket.listen(1)
        except OSError:
            self._socket.close()
            pid = _name_holder(address)
            if pid is not None:
                raise StateError(
                    f"{what} is in use by pid {pid}, though its lock is gone: the directory was deleted while that "
                    f"daemon runs; end it (`kill {pid}`), or choose another directory"
                ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def find_holder(path: Path, owner: int | None = None) -> Holder | None:
    """The living process that holds the lock at `path`, as the kernel tells; None when there is none.

    Only a process of the directory's owner counts, and only with a file of that owner: other writers there can put
    another daemon's file in its place. `owner`: the uid that must own the directory; None for any.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _OPEN)
        try:
            file, folder = os.fstat(descriptor), path.parent.stat()
            holder = _locking(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    if holder is None or file.st_uid != folder.st_uid or owner not in (None, folder.st_uid):
        return None
    from supervisor.system.processes import real_uid  # psutil: commands that find no daemon do not wait for it

    return holder if real_uid(holder.pid) == folder.st_uid else None


def _locking(descriptor: int) -> Holder | None:
    """The holder of the lock; asked again after its start time was read, so that the two belong together."""
    pid = lock_owner(descriptor)
    ticks = posix.start_ticks(pid) if pid else None
    if pid is None or ticks is None or lock_owner(descriptor) != pid:
        return None
    return Holder(pid, ticks)


def _same(descriptor: int, path: Path) -> bool:
    """Whether the file we locked is still the one at its path (its last holder removes it)."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _pid_namespace() -> bytes:
    """The name of our pid namespace (namespaces(7)); b"" without /proc."""
    try:
        return os.fsencode(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return b""


def _name_holder(address: str) -> int | None:
    """The pid of the process of our user that has this name; None when there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, suppress(OSError):
        asking.setblocking(False)
        asking.connect(address)
        pid, uid = peer_of(asking)
        return pid if uid == os.geteuid() else None
    return None
