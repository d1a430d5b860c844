"""What is in memory as soon as a program of ours has begun: its share of every host it runs on, for as long as it runs.

Asked of the interpreter, not of the sources: libraries bring libraries.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"pika", "sqlite3", "rich", "asyncio", "email", "importlib.metadata", "zipfile", "tempfile"}

NOT_FOR: dict[str, set[str]] = {
    "supervisor": HEAVY | {"click", "psutil", "setproctitle", "pythonjsonlogger"},  # users' own tests import it
    "supervisor.cli.start": HEAVY,  # the master, to be
    "supervisor.forkserver.__main__": HEAVY | {"click"},  # and with it every worker
    "supervisor.consumer.__main__": HEAVY - {"sqlite3"} | {"click"},  # where the broker is the embedded queue
}
"""Module → what importing it must not bring."""


@pytest.mark.parametrize("module", NOT_FOR)
def test_nothing_heavy_is_imported_that_is_not_used(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({NOT_FOR[module]!r} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == []
