"""Being somebody else for a moment: a forked child that has given up root. For tests of permissions, run by root."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


@contextmanager
def says_nobody(action: Callable[[], str]) -> Iterator[int]:
    """A child that runs `action()` as nobody; gives the descriptor its answer can be read from, to the end."""
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


@contextmanager
def a_folder_for_everybody() -> Iterator[Path]:
    """A temporary folder that other users may enter (pytest's are private)."""
    with tempfile.TemporaryDirectory(prefix="preforkd-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
