"""A function run in a forked child that never outlives its test: killed and reaped at the end, whatever happened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from supervisor.system import posix


@contextmanager
def forked(function: Callable[[], object]) -> Iterator[int]:
    """Run `function` in a child; gives its pid. The child leaves with 0 when it returns and 1 when it raises.

    It also ends with its parent: pytest-timeout ends a hanging run without any cleaning up.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            posix.die_with_parent(signal.SIGKILL, parent)
            function()
            status = 0
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def kill_and_reap(pid: int) -> None:
    """SIGKILL, and wait until the child is gone for good."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
