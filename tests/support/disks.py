"""A disk that can really be full: a small tmpfs of its own. Needs root."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted tmpfs; `fill` takes all that is left of it, `free` gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError as error:
                assert error.errno == errno.ENOSPC

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def give_back(self, size: int) -> None:
        """Free so many bytes of a disk that is full."""
        os.truncate(self._ballast, self._ballast.stat().st_size - size)


@contextmanager
def small_disk(mount_point: Path, size: str = "4m") -> Iterator[SmallDisk]:
    """Mount a disk of this size for the length of a test, which is skipped without root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    mount_point.mkdir()
    options = f"size={size},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount_point], check=True, timeout=20)
    try:
        yield SmallDisk(mount_point)
    finally:
        subprocess.run(["umount", "--lazy", mount_point], check=True, timeout=20)
