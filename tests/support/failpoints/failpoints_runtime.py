"""Fail-points, inside the processes of a daemon under test: comment lines of the sources that can be made to kill.

A line `# fail-point: NAME: what has happened` costs nothing and does nothing, except where this module is on the path:
then it is compiled as a call of `hit("NAME")`. A point is armed by a folder of tokens (`armed/NAME/0`, `1`, ...); each
hit takes the highest, whichever process it is in. The process that takes the last one kills itself, or with
`whole-group` all processes of its daemon. No configuration of the daemon can reach any of this.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import NoReturn

FOLDER = "PREFORKD_FAILPOINTS"
ARMED, WHOLE_GROUP, FIRED = "armed", "whole-group", "fired"

_PR_SET_PDEATHSIG = 1

MARKER = re.compile(r"^( *)# fail-point: (\S+): (.+)$", re.MULTILINE)
"""Indentation, name, and what has and has not happened there."""


def instrument_imports() -> None:
    """From now on, modules of the daemon are compiled with their fail-points."""
    sys.meta_path.insert(0, _Finder())


def instrumented(source: str) -> str:
    """The source with calls for its fail-points; every other line stays what and where it is."""
    return MARKER.sub(r'\1__import__("failpoints_runtime").hit("\2")', source)


class _Loader(SourceFileLoader):
    """Compiles modules with fail-points each time again: it must never get into a cache that others read."""

    def get_code(self, fullname: str) -> CodeType | None:
        source = self.get_data(self.path).decode()
        if MARKER.search(source) is None:
            return super().get_code(fullname)
        return compile(instrumented(source), self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds the daemon's own modules as Python does, and has them loaded by `_Loader`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] != "supervisor":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def hit(name: str) -> None:
    """A process is at this point; it does not come back where the last token was here."""
    folder = Path(os.environ.get(FOLDER, "/nonexistent"))
    if _took_last_token(folder / ARMED / name):
        _note(folder / FIRED, f"{name} {os.getpid()}\n")
        if (folder / WHOLE_GROUP).exists():
            _kill_the_others(f"{FOLDER}={folder}".encode())
        _kill_myself()


def _took_last_token(tokens: Path) -> bool:
    with suppress(FileNotFoundError):
        for token in sorted(tokens.iterdir(), key=lambda token: int(token.name), reverse=True):
            with suppress(FileNotFoundError):  # another process was faster
                token.unlink()
                return token.name == "0"
    return False


def _note(path: Path, line: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.write(file, line.encode())
    os.close(file)


def _kill_the_others(mark: bytes) -> None:
    """As if at one moment: no process that still runs sees another one dead."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0)  # or we would die with our parent, before the others
    stopped: set[int] = set()
    while fresh := _processes(mark) - stopped - {os.getpid()}:
        _signal_all(fresh, signal.SIGSTOP)
        stopped |= fresh
    _signal_all(stopped, signal.SIGKILL)


def _processes(mark: bytes) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
    return found


def _signal_all(pids: set[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def _kill_myself() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL came too late")
