"""Files that grow while a test runs: each line is read once, however often all of them are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


class JsonLines:
    """The lines of a file that are JSON objects or arrays, decoded as `type`; a line without its end is left for later.

    `path` may be missing, and must never become shorter.
    """

    def __init__(self, path: Path, type: Any) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(type)
        self._read = 0
        self._lines: list[Any] = []

    def all(self) -> list[Any]:
        """Everything that is there by now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new, end, _unfinished = file.read().rpartition(b"\n")
            self._read += len(new + end)
            self._lines += [self._decoder.decode(line) for line in new.splitlines() if line.startswith((b"{", b"["))]
        return list(self._lines)
