"""A pool's progress board: one heartbeat word of the consumer, one of the forkserver.

Each of them writes its word in its own loop; the master's hang detector reads both. A word that stands still belongs
to a process that is stopped or hangs, though its pid and sockets look healthy. No lock: each word has one writer.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

from supervisor.scoreboard.mapping import PositionalFile, is_at_path

_BYTES = 4096
_HEADER = b"prefbord" + struct.pack("=II", 1, _BYTES)
CONSUMER, FORKSERVER = 64 // 8, 128 // 8
"""The words of the board, by index."""

BEAT_NS = 100_000_000
"""The shortest time between two writes of a word."""


class Board:
    """The file `board` of a pool, created if it is missing. Raises StateError like a Slot.

    `owner`: replace a damaged file too. Only the master does so: two files of one name would be two boards. A file that
    is damaged later is whole again after the next beat.
    """

    def __init__(self, path: Path, *, owner: bool = True) -> None:
        self._path = path
        self._file = PositionalFile(path, _HEADER, _BYTES, make=owner or not path.exists())
        self._words = self._file.words
        self._beaten_ns = {CONSUMER: 0, FORKSERVER: 0}

    def renewed(self) -> Board:
        """This board, or a new one if its file was removed. Raises StateError."""
        if is_at_path(self._file.descriptor, self._path):
            return self
        fresh = Board(self._path)
        self._file.close()
        return fresh

    def close(self) -> None:
        """Close the file. The board must not be used afterwards."""
        self._file.close()

    def beat(self, word: int) -> None:
        """Record progress now; `word`: CONSUMER or FORKSERVER."""
        now_ns = time.monotonic_ns()
        if now_ns - self._beaten_ns[word] >= BEAT_NS:
            self._words[word] = self._beaten_ns[word] = now_ns

    def beat_s(self, word: int) -> float:
        """CLOCK_MONOTONIC of the last progress in this `word`, in seconds; 0 if there was none since boot."""
        beat_ns = self._words[word]
        return 0.0 if beat_ns > time.monotonic_ns() else beat_ns / 1e9  # in the future: written before a reboot
