"""Python snippets as real processes, to be killed by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


class Snippet:
    """A running snippet that prints lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def line(self) -> str:
        """Its next line; an AssertionError when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.endswith("\n"), f"the snippet ended with {self._process.wait(20)}"
        return line[:-1]

    def rest(self) -> list[str]:
        """The whole lines that it prints until it ends by itself."""
        assert self._process.stdout is not None
        rest = self._process.stdout.read()
        self._process.wait(20)
        return rest.split("\n")[:-1]

    def kill(self) -> list[str]:
        """SIGKILL; the whole lines that it had still printed."""
        self._process.send_signal(signal.SIGKILL)
        return self.rest()


@contextmanager
def snippet(code: str, *arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[Snippet]:
    """Run `code` in a Python of its own, which never outlives the block; `environ` is added to its environment."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT), **(environ or {})},
    )
    try:
        yield Snippet(process)
    finally:
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
