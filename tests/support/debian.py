"""Debian 13 in a directory tree made by debootstrap: for programs of another release, and in place of a base image.

Made once for each set of packages and kept in the user's cache. Nothing outside that folder is touched.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BUILD_TIMEOUT_S = 900
_RELEASE = "trixie"


class Unavailable(Exception):
    """There is no such tree here; the text says what is missing."""


def tree(name: str, *packages: str) -> Path:
    """The tree of this `name` with the smallest set of packages and these, built when it is not there yet (one to two
    minutes). Raises Unavailable."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preforkd-tests"
    root = cache / name
    if os.geteuid() != 0:
        raise Unavailable("a Debian tree is built and entered by root alone")
    if root.exists():
        return root
    if shutil.which("debootstrap") is None:
        raise Unavailable("Debian 13 is installed into a folder: apt-get install debootstrap, and try again")
    cache.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(cache / f"{name}.lock"):
        return root if root.exists() else _build(root, cache / f"{name}.unfinished", packages)


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Two runs that build the same tree destroy each other's."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(root: Path, unfinished: Path, packages: tuple[str, ...]) -> Path:
    subprocess.run(["umount", unfinished / "proc"], capture_output=True)  # left mounted by a build that was killed
    shutil.rmtree(unfinished, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", _RELEASE, str(unfinished)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S)
    if built.returncode != 0:
        raise Unavailable(f"debootstrap failed: {' / '.join(built.stdout.splitlines()[-3:])}")
    unfinished.rename(root)
    return root
