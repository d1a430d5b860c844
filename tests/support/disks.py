"""Disks that can really be full (a small tmpfs), take no writes (a frozen ext4), or fail them. All need root."""

from __future__ import annotations

import errno
import os
import shutil
import signal
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

    def requeue(self, size: int) -> None:
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


class FreezableDisk:
    """A mounted ext4; whatever writes to it while it is frozen waits inside the kernel (state D)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard: subprocess.Popen[bytes] | None = None

    def freeze(self, at_most_s: int = 60) -> None:
        """Let every write wait until `thaw`, or for `at_most_s`, should this process be killed before."""
        subprocess.run(["fsfreeze", "--freeze", self.path], check=True, timeout=20)
        thaw = f'sleep {at_most_s}; fsfreeze --unfreeze "$0"'
        self._guard = subprocess.Popen(["sh", "-c", thaw, self.path], start_new_session=True)

    def thaw(self) -> None:
        """Let the writes go on; harmless when it is not frozen."""
        if self._guard is not None:
            os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.wait()
            self._guard = None
            subprocess.run(["fsfreeze", "--unfreeze", self.path], check=True, timeout=20)


class FailingDisk:
    """An ext4 on a loop device whose own store is a tmpfs: once that is full, writes of new blocks fail (EIO)."""

    def __init__(self, path: Path, image: Path, store: SmallDisk) -> None:
        self.path = path
        self._image = image
        self._store = store

    def fail(self) -> None:
        """Let writes fail from now on."""
        os.sync()
        self._store.fill()

    def mount_again(self) -> None:
        """Repair the disk as after a power loss: what is not on it has gone, the journal is replayed."""
        subprocess.run(["umount", self.path], check=True, timeout=60)
        self._store.free()
        subprocess.run(["mount", "-o", "loop", self._image, self.path], check=True, timeout=60)


@contextmanager
def failing_disk(folder: Path) -> Iterator[FailingDisk]:
    """Mount a disk of 40 MiB below `folder` for the length of a test, which is skipped where that is impossible."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("a failing disk needs root and loop devices")
    with small_disk(folder / "store", "48m") as store:
        image, mount_point = store.path / "disk.img", folder / "disk"
        _mount_image(image, mount_point, mebibytes=40)
        try:
            yield FailingDisk(mount_point, image, store)
        finally:
            subprocess.run(["umount", "--lazy", mount_point], check=True, timeout=20)


@contextmanager
def freezable_disk(folder: Path) -> Iterator[FreezableDisk]:
    """Mount a disk of 64 MiB below `folder` for the length of a test, which is skipped where that is impossible."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists() or shutil.which("fsfreeze") is None:
        pytest.skip("freezing a disk needs root, loop devices and fsfreeze")
    mount_point = folder / "disk"
    _mount_image(folder / "disk.img", mount_point, mebibytes=64)
    disk = FreezableDisk(mount_point)
    try:
        yield disk
    finally:
        disk.thaw()
        subprocess.run(["umount", "--lazy", mount_point], check=True, timeout=20)


def _mount_image(image: Path, mount_point: Path, mebibytes: int) -> None:
    """Make an ext4 of this size in a file, and mount it. The test is skipped where there is no loop device."""
    mount_point.mkdir()
    with image.open("wb") as file:
        file.truncate(mebibytes * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, timeout=60)
    mounted = subprocess.run(["mount", "-o", "loop", image, mount_point], timeout=20, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no loop device here: {mounted.stderr.strip()}")
