"""Small files of the master: replaced in one step, so that a reader sees the old or the new, never half.

Nothing is synced: a disk that takes seconds for fdatasync(2) would hold up every death, limit and command. A restart
needs the page cache only; what the power can take, each reader of such a file makes up for.
"""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.errors import StateError


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`. Raises OSError with the old file untouched."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)
    # fail-point: master.file-fresh: the new file is written and not in its place
    fresh.replace(path)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes of `data` to the open `descriptor`. Raises OSError, perhaps after a part of them."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def make_directory(path: Path) -> None:
    """Make a directory below `state_dir` where it is missing. Raises StateError."""
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"{path}: this directory cannot be made: {error.strerror}; check the owner of state_dir"
        ) from error
