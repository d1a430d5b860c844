"""The log as a file: its last lines, and new ones, while the file grows, is moved (logrotate) or is cut (copytruncate).

The log relay appends whole lines, and opens a new file once the former is moved (supervisor/logs/relay.py).
"""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path

from supervisor.cli.logs.lines import Line, line_of
from supervisor.errors import StateError

_FOLLOW_S = 0.25
_BLOCK_BYTES = 64 * 1024
_LINE_BYTES = 2 * 1024**2
"""Longer ones come in pieces."""


class LogFile:
    """The log in the file `path`. Raises StateError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._file = self._open(path)
        self._at = 0

    def last(self, count: int, wanted: Callable[[Line], bool], to_follow: bool) -> Iterable[Line]:
        """The last `count` lines (0: all) that are `wanted`, also from the file before the last rotation.

        `to_follow`: a line without an end is left to `follow`. Raises StateError if there is no file.
        """
        if self._file is None:
            if to_follow:
                return []
            raise StateError(f"{self._path}: there is no such log yet; `preforkd status` shows whether a daemon runs")
        if count == 0:
            return filter(wanted, self._everything(to_follow))
        size = os.fstat(self._file.fileno()).st_size
        lines = _backwards(self._file, size)
        torn = next(lines)
        self._at = size - len(torn)
        found = filter(wanted, map(line_of, chain(_torn(torn, to_follow), lines, self._older(_last_first))))
        return list(islice(found, count))[::-1]

    def _everything(self, to_follow: bool) -> Iterator[Line]:
        yield from map(line_of, self._older(_forwards))
        yield from self.new()
        if self._file is not None:
            self._file.seek(self._at)
            yield from map(line_of, _torn(self._file.read(), to_follow))

    def follow(self) -> Iterator[Line]:
        """Lines that come after those of `last`, for ever."""
        while True:
            yield from self.new()
            time.sleep(_FOLLOW_S)

    def new(self) -> Iterator[Line]:
        """The whole lines since the last call. Raises StateError if a new file cannot be read."""
        if self._file is None:
            self._file, self._at = self._open(self._path), 0
        if self._file is None:
            return
        if os.fstat(self._file.fileno()).st_size < self._at:
            self._at = 0
        yield from self._whole_lines(self._file)
        if self._moved(self._file):
            yield from self._whole_lines(self._file)  # written between the last read and the move
            self._file.close()
            self._file = None
            yield from self.new()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _whole_lines(self, file: BufferedReader) -> Iterator[Line]:
        file.seek(self._at)
        for line in file:
            if not line.endswith(b"\n"):
                return
            self._at += len(line)
            yield line_of(line[:-1])

    def _moved(self, file: BufferedReader) -> bool:
        try:
            return not os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except OSError:  # it is moved, and not made again yet: the writer still has the former one
            return False

    def _older(self, read: Callable[[BufferedReader], Iterator[bytes]]) -> Iterator[bytes]:
        """The lines that `read` gives of the file before this one; nothing if there is none that can be read."""
        pattern = f"{glob.escape(self._path.name)}[.-]*[0-9]"  # .1, or -20261130 (dateext); no compressed ones
        with suppress(StateError, OSError):
            paths = sorted(self._path.parent.glob(pattern), key=_changed_at)
            older = self._open(paths[-1]) if paths else None
            if older is None or self._file is None:
                return
            with older:
                if not os.path.samestat(os.fstat(older.fileno()), os.fstat(self._file.fileno())):
                    yield from read(older)

    def _open(self, path: Path) -> BufferedReader | None:
        advice = "use the daemon's user, or root (sudo)"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{path}: cannot read the log: {error.strerror}; {advice}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StateError(
                f"{path}: the log goes there, and cannot be read again: this is no regular file; "
                "name another `file` in [log]"
            )
        return open(descriptor, "rb")


def _changed_at(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _torn(rest: bytes, to_follow: bool) -> list[bytes]:
    """The line without an end that a log ends with, if there is one and it is not followed."""
    return [rest] if rest and not to_follow else []


def _forwards(file: BufferedReader) -> Iterator[bytes]:
    """The lines of a file without their ends."""
    return (line.removesuffix(b"\n") for line in file)


def _last_first(file: BufferedReader) -> Iterator[bytes]:
    lines = _backwards(file, os.fstat(file.fileno()).st_size)
    return chain(_torn(next(lines), to_follow=False), lines)


def _backwards(file: BufferedReader, size: int) -> Iterator[bytes]:
    """What follows the last end of line in the first `size` bytes (often b""), then the lines before it, last first."""
    rest, at = b"", size
    while at > 0:
        length = min(_BLOCK_BYTES, at)
        at -= length
        file.seek(at)
        rest, *lines = (file.read(length) + rest).split(b"\n")
        yield from reversed(lines)
        if len(rest) > _LINE_BYTES:
            yield rest
            rest = b""
    yield rest
