"""Restores the state of a process after user code has run in it, and reports state that cannot be restored.

Runs in forkservers, once after the import, and in workers. A check costs some 40 µs of system calls. It is made after
each run, but in a long burst of short runs only every 50 ms (a token bucket: 20 at once, one more every `EVERY_S`), and
before a rest.
"""

from __future__ import annotations

import io
import math
import os
import sys
from _thread import _count
from collections.abc import Callable, Mapping
from os import close, dup, dup2
from typing import Any

from supervisor.logs.structured import LogGuard
from supervisor.system.posix import identity, move_up
from supervisor.system.process_state import ProcessState

EVERY_S = 0.05
_BURST_S = 20 * EVERY_S
_AT_REST_S = 0.5
"""Threads, also those of C code that Python does not count, may change state without a run."""

_NAMES = {1: "stdout", 2: "stderr"}
_FILE_MODES = {0: os.O_RDONLY, 1: os.O_WRONLY, 2: os.O_WRONLY}


class Upkeep:
    """`own`: the process's vital descriptors, by purpose. `restorers`: functions that restore other state.
    `told(names)` is called once, with the state that a run has changed for good. `log_level`: the level of [log].
    """

    def __init__(
        self,
        log_level: str,
        own: Mapping[str, int],
        restorers: tuple[Callable[[], object], ...] = (),
        told: Callable[[str], object] = lambda names: None,
    ) -> None:
        self._log_guard = LogGuard(log_level)
        self._state = ProcessState()
        self._streams = StandardStreams()
        self._own = {name: (number, identity(number)) for name, number in own.items()}
        self._restorers = restorers
        self._told = told
        self._due_s = self._last_s = 0.0
        self._is_dirty = self._had_threads = False
        self.spoilt = ""

    def adopt(self) -> list[str]:
        """Keep the lasting settings of the import or `init`; returns the names of vital state that it has changed."""
        return self._restored(self._streams.adopt, self._state.adopt)

    def close(self) -> None:
        """Close own copies of the standard streams."""
        self._streams.close()

    def begin(self) -> None:
        """Note that a run begins."""
        self._is_dirty = True

    def look(self, now_s: float) -> None:
        """Restore state that a run or a thread may have changed. Called while no user code runs."""
        if now_s >= self._due_s and (self._is_dirty or self._may_have_changed(now_s)):
            self._restore(now_s)

    def _may_have_changed(self, now_s: float) -> bool:
        return self._had_threads or _count() > 0 or now_s >= self._last_s + _AT_REST_S

    def due_in_s(self, now_s: float) -> float:
        """Seconds until `look` has work; infinite after it was done."""
        return max(0.0, self._due_s - now_s) if self._is_dirty else math.inf

    def _restore(self, now_s: float) -> None:
        self._due_s = max(self._due_s, now_s - _BURST_S) + EVERY_S
        self._last_s, self._is_dirty = now_s, False
        self._had_threads = bool(_count())
        lost = self._restored(self._streams.restore, self._state.restore)
        if lost and not self.spoilt:
            self.spoilt = ", ".join(lost)
            self._told(self.spoilt)

    def _restored(self, restore_streams: Callable[[], None], restore_state: Callable[[], list[str]]) -> list[str]:
        """Restore everything; returns the names of state that cannot be restored."""
        restore_streams()
        lost = [name for name, (number, former) in self._own.items() if identity(number) != former]
        lost = restore_state() + lost
        self._log_guard.restore()
        for restore in self._restorers:
            restore()
        return lost


class StandardStreams:
    """The files of descriptors 0, 1 and 2 when this object is made (/dev/null for a closed one); copies 1 and 2.

    After descriptor 2 is closed, the next file that user code opens gets this number, and log lines and tracebacks
    would be written to it. A replacement of `sys.stdout` or `sys.stderr` counts until the end of the run; that of the
    import or `init` stays.
    """

    def __init__(self) -> None:
        self._copies: dict[int, int] = {}
        self._identities: dict[int, tuple[int, int] | None] = {}
        for number in _FILE_MODES:
            self._save(number)
        self._files = {name: getattr(sys, name, None) for name in _NAMES.values()}

    def adopt(self) -> None:
        """Keep the open `sys.stdout` and `sys.stderr` that the import or `init` has set, and restore the rest."""
        for name in _NAMES.values():
            if not _is_closed(file := getattr(sys, name, None)):
                self._files[name] = file
        self.restore()

    def restore(self) -> None:
        """Restore each descriptor, and `sys.stdout` and `sys.stderr`."""
        for number, former in self._identities.items():
            if identity(number) != former:
                self._put_back(number)
        for number, name in _NAMES.items():
            if _is_closed(self._files[name]):
                self._files[name] = _stream(number)
            if getattr(sys, name, None) is not self._files[name]:
                setattr(sys, name, self._files[name])

    def close(self) -> None:
        """Close the copies."""
        for number, copy in self._copies.items():
            if identity(copy) == self._identities[number]:  # else user code has closed it
                close(copy)

    def _save(self, number: int) -> None:
        if identity(number) is None:
            open_null(number)
        if number in _NAMES:
            self._copies[number] = move_up(dup(number))
        self._identities[number] = identity(number)

    def _put_back(self, number: int) -> None:
        copy = self._copies.get(number)
        if copy is not None and identity(copy) == self._identities[number]:
            dup2(copy, number)
        elif copy is None or identity(number) is None:
            open_null(number)


def open_null(number: int) -> None:
    """Let the standard descriptor `number` lead to /dev/null."""
    null = os.open(os.devnull, _FILE_MODES[number])
    if null != number:
        dup2(null, number)
        close(null)
    os.set_inheritable(number, True)


def _is_closed(stream: Any) -> bool:
    """Whether the stream is closed. An object of user code may have any attributes."""
    try:
        return stream is None or stream.closed is True
    except Exception:  # noqa: BLE001  (an object of user code)
        return False


def _stream(number: int) -> io.TextIOWrapper:
    raw = io.FileIO(number, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)
