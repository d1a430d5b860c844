"""Reads the exit history: `exits.jsonl`, and the older `exits.jsonl.1`.

Used by the command line, the web page and the drill, and by the master at its start. Only the master writes
(`master/exits/history.py`): it appends, and renames a full file before it starts the next. An incomplete last line is
read later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from supervisor.errors import StateError

CURRENT = "exits.jsonl"
ROTATED = "exits.jsonl.1"

Record = dict[str, Any]
T = TypeVar("T")


class ExitShape(msgspec.Struct):
    """The types of the fields that readers use. A line with other types was not written by a master."""

    at: str = ""
    kind: str = ""
    pool: str | None = None
    slot: int | None = None
    pid: int | None = None
    cause: str = ""
    status: int | None = None
    signal: str | None = None
    uptime_s: float | None = None
    run: str | None = None
    attempt: int | None = None
    message_id: str | None = None
    elapsed_s: float | None = None
    limit_s: float | None = None
    oom_evidence: str | None = None
    stack: str | None = None


class HistoryTail:
    """A position in the exit history: `new()` gives the records added since, at first all, across rotations."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._file: BufferedReader | None = None
        self._begun = False

    def new(self) -> Iterator[Record]:
        """The records since the last call; the first call begins with the older file.

        Raises StateError if a file cannot be read.
        """
        if not self._begun and (old := self._open(ROTATED)) is not None:
            with old:
                yield from records(old, _checked)
        self._begun = True
        if self._file is None:
            self._file = self._open(CURRENT)
        if self._file is None:
            return
        yield from records(self._file, _checked)
        if self._renamed(self._file):
            yield from records(self._file, _checked)  # lines written between the last read and the rotation
            self.close()
            yield from self.new()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> HistoryTail:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _renamed(self, file: BufferedReader) -> bool:
        try:
            current = (self._state_dir / CURRENT).stat()
        except FileNotFoundError:
            return False
        return current.st_ino != os.fstat(file.fileno()).st_ino

    def _open(self, name: str) -> BufferedReader | None:
        path = self._state_dir / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # open(2) of a FIFO would block
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(
                f"{path}: cannot read the exit history: {error.strerror}; use the daemon's user, or root (sudo)"
            ) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StateError(f"{path}: cannot read the exit history: it is no regular file; move it away")
        return open(descriptor, "rb")


def wanted(records: Iterator[Record], pool: str | None, cause: str | None) -> Iterator[Record]:
    """The records of this `pool` and with this `cause`; None stands for any."""
    for record in records:
        if pool in (None, record.get("pool")) and cause in (None, record.get("cause")):
            yield record


def records(file: BufferedReader, decode: Callable[[bytes], T]) -> Iterator[T]:
    """The lines of `file` that are whole; one for which `decode` raises MsgspecError is passed over."""
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        try:
            record = decode(line)
        except msgspec.MsgspecError:  # torn by a crash or a full disk: the other lines are valid
            continue
        yield record


def _checked(line: bytes) -> Record:
    record: Record = msgspec.json.decode(line)
    msgspec.convert(record, ExitShape)
    return record
