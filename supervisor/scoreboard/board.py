"""A pool's progress board: one mapped word in which the consumer, and one in which the forkserver, shows that it lives.

Written by each of them in its own loop, read by the master (the dead-man): a word that has not moved for too long is
a process that is stopped or wedged, though its pid and sockets look healthy. No lock: each word has one writer.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

from supervisor.scoreboard.mapping import MappedFile

_BYTES = 4096
_HEADER = b"prefbord" + struct.pack("=II", 1, _BYTES)
_CONSUMER, _FORKSERVER = 64 // 8, 128 // 8


class Board:
    """The mapped file `board` of a pool, made where it is missing. Raises StateError like a Slot."""

    def __init__(self, path: Path) -> None:
        self._words = MappedFile(path, _HEADER, _BYTES, make=True).words

    def beat_consumer(self) -> None:
        """The consumer has made progress now."""
        self._words[_CONSUMER] = time.monotonic_ns()

    def beat_forkserver(self) -> None:
        """The forkserver has made progress now."""
        self._words[_FORKSERVER] = time.monotonic_ns()

    @property
    def consumer_beat_s(self) -> float:
        """CLOCK_MONOTONIC of the consumer's last progress, in seconds; 0 when there was none since boot."""
        return self._read(_CONSUMER)

    @property
    def forkserver_beat_s(self) -> float:
        """CLOCK_MONOTONIC of the forkserver's last progress, in seconds; 0 when there was none since boot."""
        return self._read(_FORKSERVER)

    def _read(self, word: int) -> float:
        beat_ns = self._words[word]
        return 0.0 if beat_ns > time.monotonic_ns() else beat_ns / 1e9  # from the future: from another boot
