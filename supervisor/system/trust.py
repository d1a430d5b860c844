"""Finds users besides root that can change the file at a path, before root reads or makes it. No state.

A file of root cannot be trusted while another user can replace it, its directory, or a link on its path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_MOST_LINKS = 40  # as path_resolution(7) has it


def changeable_by(path: Path, owner: int | None = None) -> str:
    """The user that could change the file at this path, as text: "uid 1000 (it owns /srv/app)"; "" for root alone.

    Checks every directory and link from / on, and the file itself; a missing file depends on its directory. In a
    directory with the sticky bit other users cannot replace root's files. `owner`: a uid besides root that may own the
    file itself, but no directory or link; None: root alone.
    """
    place = Path("/")
    try:
        for place, found, last in places(path):
            if reason := _other_user(place, found, owner if last else None):
                return reason
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"an unknown user ({error.filename or place} cannot be read: {error.strerror})"
    return ""


def places(path: Path) -> Iterator[tuple[Path, os.stat_result, bool]]:
    """Every directory and link from / on to the file at `path`, then the file itself (path_resolution(7)).

    The flag is true for the file. A place has no link above it. Raises OSError where a place is missing, may not be
    looked at, or there are too many links; the place before it was the last one.
    """
    place, ahead, links = Path("/"), list(path.absolute().parts[1:]), _MOST_LINKS
    while True:
        found = place.lstat()
        linked = stat.S_ISLNK(found.st_mode)
        yield place, found, not (ahead or linked)
        if linked:
            links -= 1
            target = place.readlink()
            place, ahead = (Path("/") if target.is_absolute() else place.parent), [*target.parts, *ahead]
        if not ahead:
            return
        if not links:
            raise OSError(errno.ELOOP, "there are too many links", str(place))
        place = _step(place, ahead.pop(0))


def _step(place: Path, name: str) -> Path:
    return place.parent if name == ".." else place / name  # `place` has no link in it


def _other_user(place: Path, found: os.stat_result, owner: int | None) -> str:
    if found.st_uid not in trusted_uids() and found.st_uid != owner:
        return f"uid {found.st_uid} (it owns {place})"
    return "" if stat.S_ISLNK(found.st_mode) else _writable(place, found)


def _writable(place: Path, found: os.stat_result) -> str:
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return ""
    if found.st_mode & stat.S_IWOTH:
        return f"all users (chmod o-w {place})"
    return f"group {found.st_gid} (chmod g-w {place})" if found.st_mode & stat.S_IWGRP else ""


@cache
def trusted_uids() -> frozenset[int]:
    """The uids that count as root's: 0, and in a user namespace the overflow uid, which stands for the real root, too
    (user_namespaces(7))."""
    try:
        mapped = Path("/proc/self/uid_map").read_text().split()
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return frozenset({0})
    return frozenset({0}) if mapped == ["0", "0", "4294967295"] else frozenset({0, overflow})
