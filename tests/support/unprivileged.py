"""A daemon without privileges, and a program of root's that its handlers may execute. For tests that root runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, cleaned_up
from tests.support.nobody import NOBODY, a_public_folder, public_path, public_python

_TO_ROOT = ("--reuid=0", "--regid=0", "--clear-groups", "--")


class Unprivileged(Daemon):
    """A daemon that runs as `nobody`. `root`: words before a command that make it a process of root's, same pid."""

    def __init__(self, directory: Path, settings: str) -> None:
        super().__init__(directory, settings)
        environment = (f"PYTHONPATH={public_path()}", "PYTHONDONTWRITEBYTECODE=1")
        drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
        self.program = (*drop, "env", *environment, public_python(), "-m", "supervisor")
        escalate = directory / "as-root"
        shutil.copy(shutil.which("setpriv") or "", escalate)
        for path in (directory, self.marks):
            os.chown(path, NOBODY, NOBODY)
        escalate.chmod(0o4755)
        self.root = (str(escalate), *_TO_ROOT)

    def end_as_root(self, pid: int) -> None:
        """End what the daemon itself cannot."""
        os.kill(pid, signal.SIGKILL)


@contextmanager
def unprivileged(
    settings: str, prepare: Callable[[Unprivileged], None] = lambda under_test: None
) -> Iterator[Unprivileged]:
    """A running daemon of `nobody`, after `prepare`; skipped where set-user-ID programs have no effect."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a set-user-ID program")
    with a_public_folder() as folder:
        under_test = Unprivileged(folder, settings)
        if not _escalates(under_test):
            pytest.skip("set-user-ID programs have no effect here")
        prepare(under_test)
        with cleaned_up(under_test, start=True):
            yield under_test


def _escalates(under_test: Unprivileged) -> bool:
    drop = [*under_test.program[: under_test.program.index("env")], *under_test.root, "id", "-u"]
    return subprocess.run(drop, capture_output=True, text=True, check=False).stdout.strip() == "0"
