"""Being another user for a moment: a forked child that has given up root. For tests of permissions, run by root."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.shells import Shell, with_command
from tests.support.source_tree import ROOT

NOBODY = 65534
_MUCH_BYTES = 4 << 30

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@contextmanager
def answer_of_nobody(action: Callable[[], str]) -> Iterator[int]:
    """A child that runs `action()` as `nobody`; gives the descriptor its answer can be read from, to the end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writer, action().encode())
        except BaseException as error:  # the child must end here, whatever happens
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        yield reader
    finally:
        os.close(reader)
        os.waitpid(pid, 0)


def _memory() -> str | None:
    """The folder of Linux whose files are in memory, with much room; None without."""
    with suppress(OSError):
        there = os.statvfs("/dev/shm")
        if there.f_bavail * there.f_frsize > _MUCH_BYTES and os.access("/dev/shm", os.W_OK):
            return "/dev/shm"
    return None


@contextmanager
def a_public_folder(in_memory: bool = False) -> Iterator[Path]:
    """A temporary folder that other users may enter (pytest's are private).

    `in_memory`: where there is room, for servers that sync often. A kill -9 loses no more there than on a disk: the
    files are the kernel's.
    """
    with tempfile.TemporaryDirectory(prefix="preforkd-test-", dir=_memory() if in_memory else None) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def runs_as_nobody(python: str) -> bool:
    """Whether a user without root may run this interpreter; root's own home is often closed to others."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(python).resolve().parents)


@contextmanager
def ordinary_home() -> Iterator[Shell]:
    """The home folder of a user without root, and a shell in it; `preforkd` is in its PATH.

    Run by root, the test becomes `nobody`, with an interpreter that `nobody` may run: our own, or the system's of this
    version with our packages; it is skipped where there is neither.
    """
    with a_public_folder() as home:
        python, prefix = sys.executable, list[str]()
        if os.geteuid() == 0:
            python = public_python()
            prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
            os.chown(home, NOBODY, NOBODY)
        environment = {
            "HOME": str(home),
            "PATH": f"{with_command(home, python)}:/usr/bin:/bin",
            "PYTHONPATH": public_path(),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        yield Shell(home, environment, prefix)


def public_python() -> str:
    """An interpreter of our version that `nobody` may run; skips the test where there is none."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin")):
        if python is not None and runs_as_nobody(python) and shutil.which("setpriv"):
            return python
    pytest.skip(f"`nobody` may not run {sys.executable}, and there is no {version} for all users (or no setpriv)")


def public_path() -> str:
    """The PYTHONPATH by which such an interpreter finds our code and the packages it needs."""
    packages = [ROOT, *(path for path in map(Path, sys.path) if path.name == "site-packages")]
    return os.pathsep.join(map(str, packages))
