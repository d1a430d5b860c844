"""Reads and writes a file that workers map by pread(2) and pwrite(2), never through a mapping.

A worker maps its slot, so that its marks cost no system call. Other processes must survive any damage to the file:
reading a truncated mapping raises SIGBUS, reading a truncated file is only short. Missing bytes read as zeros, like a
slot without a mark.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from supervisor.scoreboard.mapping import OPEN_FLAGS, open_sound, state_error

_WORD_BYTES = 8


class PositionalFile:
    """An open file of `size` bytes that begins with `header`, with the members of a MappedFile.

    `make`: create or replace it as MappedFile does; otherwise it is opened unchecked. Raises StateError if it cannot
    be opened.
    """

    def __init__(self, path: Path, header: bytes, size: int, *, make: bool) -> None:
        self.damage = ""
        try:
            if make:
                self.descriptor, self.damage = open_sound(path, header, size, make)
                os.posix_fallocate(self.descriptor, 0, size)  # a hole on a full disk would be its worker's SIGBUS
            else:
                self.descriptor = os.open(path, OPEN_FLAGS)
        except OSError as error:
            raise state_error(path, error) from error
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
