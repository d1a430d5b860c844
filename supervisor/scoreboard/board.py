"""A pool's progress board: one word in which the consumer, and one in which the forkserver, shows that it lives.

Written by each of them in its own loop, read by the master (the dead-man): a word that has not moved for too long is
a process that is stopped or wedged, though its pid and sockets look healthy. No lock: each word has one writer.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

from supervisor.scoreboard.mapping import is_at_path
from supervisor.scoreboard.positional import PositionalFile

_BYTES = 4096
_HEADER = b"prefbord" + struct.pack("=II", 1, _BYTES)
_CONSUMER, _FORKSERVER = 64 // 8, 128 // 8


BEAT_NS = 100_000_000
"""How often a beat is written at most."""


class Board:
    """The file `board` of a pool. Raises StateError like a Slot.

    It is made where it is missing. `owner`: also where it is something else; only for the master, as two files of one
    name would be two boards. A file that was damaged later is whole again with the next beat.
    """

    def __init__(self, path: Path, *, owner: bool = True) -> None:
        self._path = path
        self._file = PositionalFile(path, _HEADER, _BYTES, make=owner or not path.exists())
        self._words = self._file.words
        self._beaten_ns = {_CONSUMER: 0, _FORKSERVER: 0}

    def renewed(self) -> Board:
        """This one; another one where its file was removed. Raises StateError."""
        if is_at_path(self._file.descriptor, self._path):
            return self
        fresh = Board(self._path)
        self._file.close()
        return fresh

    def close(self) -> None:
        """Give back its descriptor. Not to be used afterwards."""
        self._file.close()

    def beat_consumer(self) -> None:
        """The consumer has made progress now."""
        self._beat(_CONSUMER)

    def beat_forkserver(self) -> None:
        """The forkserver has made progress now."""
        self._beat(_FORKSERVER)

    @property
    def consumer_beat_s(self) -> float:
        """CLOCK_MONOTONIC of the consumer's last progress, in seconds; 0 when there was none since boot."""
        return self._read(_CONSUMER)

    @property
    def forkserver_beat_s(self) -> float:
        """CLOCK_MONOTONIC of the forkserver's last progress, in seconds; 0 when there was none since boot."""
        return self._read(_FORKSERVER)

    def _beat(self, word: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._beaten_ns[word] >= BEAT_NS:
            self._words[word] = self._beaten_ns[word] = now_ns

    def _read(self, word: int) -> float:
        beat_ns = self._words[word]
        return 0.0 if beat_ns > time.monotonic_ns() else beat_ns / 1e9  # from the future: from another boot
