"""The exit history as others than the master see it: `exits.jsonl`, and `exits.jsonl.1`, set aside before it.

Read by the command line and the web page, whether or not a daemon runs; the master alone writes (`master/history.py`):
it appends, and when the file is full renames it and begins anew. A last line that is not whole yet is left for later.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec

from supervisor.errors import StateError

CURRENT = "exits.jsonl"
ROTATED = "exits.jsonl.1"

Record = dict[str, Any]


class HistoryTail:
    """A place in the exit history: `new()` gives what was added since, across rotations."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._file: BufferedReader | None = None

    def rotated(self) -> Iterator[Record]:
        """The records of the older file, if there is one."""
        old = self._open(ROTATED)
        if old is not None:
            with old:
                yield from _records(old)

    def new(self) -> Iterator[Record]:
        """The records added to the current file since the last call; all of them at the first one."""
        if self._file is None:
            self._file = self._open(CURRENT)
        if self._file is None:
            return
        yield from _records(self._file)
        if self._renamed(self._file):
            yield from _records(self._file)  # what came between our reading and the rotation
            self.close()
            yield from self.new()

    def close(self) -> None:
        """Let go of the file."""
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
        return current.st_ino != _inode(file)

    def _open(self, name: str) -> BufferedReader | None:
        path = self._state_dir / name
        try:
            return path.open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(
                f"{path}: cannot read the exit history: {error.strerror}; use the daemon's user, or root (sudo)"
            ) from error


def wanted(records: Iterator[Record], pool: str | None, cause: str | None) -> Iterator[Record]:
    """The records of this pool and with this cause; None stands for any."""
    for record in records:
        if pool in (None, record.get("pool")) and cause in (None, record.get("cause")):
            yield record


def _records(file: BufferedReader) -> Iterator[Record]:
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        try:
            record = msgspec.json.decode(line)
        except msgspec.MsgspecError:  # torn by a crash or a full disk: the records around it are still good
            continue
        if isinstance(record, dict):
            yield record


def _inode(file: BufferedReader) -> int:
    return Path(f"/proc/self/fd/{file.fileno()}").stat().st_ino
