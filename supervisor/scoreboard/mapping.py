"""Small files that workers map and other processes read; the only mmap in the project.

A worker maps its slot, so that its marks cost no system call. Other processes read and write by pread(2) and pwrite(2),
because they must survive any damage to the file: reading a truncated mapping raises SIGBUS, reading a truncated file is
only short. Missing bytes read as zeros, like a slot without a mark.

A file gets its name only once it is complete, with all blocks allocated: a hole on a full disk would be a SIGBUS
later. It stays open: closing any descriptor of a file drops the process's POSIX locks on it (fcntl(2)), and Python's
mmap has a descriptor of its own. So the object lives as long as the process; `close` is for files without a lock.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from contextlib import suppress
from os import getpid
from pathlib import Path

from supervisor.errors import StateError
from supervisor.system.locks import lock_owner

_OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_WORD_BYTES = 8

_HINTS = {
    errno.ENOSPC: "make room on this file system",
    errno.EDQUOT: "raise the quota of this user",
    errno.EROFS: "it must be on a writable file system",
    errno.EACCES: "it must belong to the user that preforkd runs as",
    errno.EPERM: "it must belong to the user that preforkd runs as",
    errno.EMFILE: "raise the limit of descriptors (ulimit -n, LimitNOFILE= of systemd)",
    errno.ENOENT: "it was deleted: restart preforkd, which creates it again",
}


class FileInUse(StateError):
    """A damaged file whose lock is held by `pid`. `fault`: the damage, for the text."""

    def __init__(self, path: Path, fault: str, pid: int) -> None:
        super().__init__(f"{path}: {fault}, but pid {pid} is using it; wait until that has ended, then start again")
        self.pid = pid


class MappedFile:
    """An open, mapped file of exactly `size` bytes that begins with `header`.

    `make`: create a missing file, and replace a damaged one (renamed to `.damaged`); `damage` then says why. Raises
    StateError if that is not allowed or fails (full disk, no permission), or a live process still uses the file.
    """

    def __init__(self, path: Path, header: bytes, size: int, *, make: bool) -> None:
        try:
            self.descriptor, self.damage = _open_sound(path, header, size, make)
            if make:  # a hole in the file would be a SIGBUS later
                os.posix_fallocate(self.descriptor, 0, size)
            self.bytes = mmap.mmap(self.descriptor, size)
        except OSError as error:
            raise _state_error(path, error) from error
        self.words = memoryview(self.bytes).cast("Q")

    def close(self) -> None:
        """Close the file, which drops all locks of this process on it."""
        self.words.release()
        self.bytes.close()
        os.close(self.descriptor)


class PositionalFile:
    """An open file of `size` bytes that begins with `header`, with the members of a MappedFile, but never mapped.

    `make`: create or replace it as MappedFile does; otherwise it is opened unchecked. Raises StateError if it cannot
    be opened.
    """

    def __init__(self, path: Path, header: bytes, size: int, *, make: bool) -> None:
        self.damage = ""
        try:
            if make:
                self.descriptor, self.damage = _open_sound(path, header, size, make)
                os.posix_fallocate(self.descriptor, 0, size)  # a hole on a full disk would be its worker's SIGBUS
            else:
                self.descriptor = os.open(path, _OPEN_FLAGS)
        except OSError as error:
            raise _state_error(path, error) from error
        self.bytes = _Bytes(self.descriptor)
        self.words = _Words(self.descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class _Bytes:
    """Slices of the file, padded with zeros to their full length."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __getitem__(self, part: slice) -> bytes:
        return _read(self._descriptor, part.stop - part.start, part.start)

    def __setitem__(self, part: slice, data: bytes) -> None:
        _write(self._descriptor, data, part.start)


class _Words:
    """The file as words of 8 bytes, by index."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __getitem__(self, index: int) -> int:
        return int.from_bytes(_read(self._descriptor, _WORD_BYTES, index * _WORD_BYTES), sys.byteorder)

    def __setitem__(self, index: int, value: int) -> None:
        _write(self._descriptor, value.to_bytes(_WORD_BYTES, sys.byteorder), index * _WORD_BYTES)


def _read(descriptor: int, count: int, offset: int) -> bytes:
    try:
        data = os.pread(descriptor, count, offset)
    except OSError:  # a broken disk: read as zeros
        data = b""
    return data.ljust(count, b"\0")


def _write(descriptor: int, data: bytes, offset: int) -> None:
    try:  # once per commit of the consumer: contextlib.suppress would cost as much as the call
        os.pwrite(descriptor, data, offset)
    except OSError:  # the mark is lost, as on a mapped page that the kernel cannot write back
        return


def is_at_path(descriptor: int, path: Path) -> bool:
    """Whether the open file `descriptor` is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def set_aside(path: Path) -> Path:
    """Rename a damaged file to `.damaged`, replacing an older one; returns the new path. Raises OSError."""
    return path.replace(path.with_name(f"{path.name}.damaged"))


def _open_sound(path: Path, header: bytes, size: int, make: bool) -> tuple[int, str]:
    """Open a file as MappedFile does with `header`, `size` and `make`; returns (descriptor, damage found).

    Raises OSError, and StateError as MappedFile does.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except FileNotFoundError:
        if not make:
            raise
        _create(path, header, size)
        return os.open(path, _OPEN_FLAGS), f"{path}: was missing and has been created"
    fault = fault_of(descriptor, header, size)
    if not fault:
        return descriptor, ""
    _refuse(path, fault, lock_owner(descriptor), make)
    os.close(descriptor)
    aside = set_aside(path)
    _create(path, header, size)
    return os.open(path, _OPEN_FLAGS), f"{path}: {fault}; set aside as {aside.name} and replaced"


def fault_of(descriptor: int, header: bytes, size: int) -> str:
    """Why the file `descriptor` is not of `size` bytes beginning with `header`; "" if it is. Raises OSError."""
    found = os.fstat(descriptor).st_size
    if found != size:
        return f"has {found} bytes instead of {size}"
    return "" if os.pread(descriptor, len(header), 0) == header else "is not a file of this version of preforkd"


def _refuse(path: Path, fault: str, user_pid: int | None, make: bool) -> None:
    if user_pid is not None:
        raise FileInUse(path, fault, user_pid)
    if not make:
        raise StateError(f"{path}: {fault}; restart preforkd, which replaces it")


def _create(path: Path, header: bytes, size: int) -> None:
    """Link the finished file to its name. Of two concurrent creators both end up with the same file."""
    unfinished = path.with_name(f".{path.name}.{getpid()}")
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        os.pwrite(descriptor, header, 0)
        with suppress(FileExistsError):
            os.link(unfinished, path)
    finally:
        os.close(descriptor)
        unfinished.unlink()


def _state_error(path: Path, error: OSError) -> StateError:
    """The error for a file that cannot be opened or created."""
    hint = _HINTS.get(error.errno or 0, "check the state directory and start again")
    return StateError(f"{path}: cannot be mapped: {error.strerror}{_free_space(path.parent)}; {hint}")


def _free_space(folder: Path) -> str:
    with suppress(OSError):
        facts = os.statvfs(folder)
        return f" ({facts.f_bavail * facts.f_frsize / 1024:.0f} KiB free)"
    return ""
