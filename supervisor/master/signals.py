"""The signals the master takes. Master only.

A handler only stores; the loop acts. Python's own wake-up descriptor ends the loop's wait, so that no signal comes
too late to be seen, and a set remembers what came, so that a full pipe loses nothing.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

from supervisor.reactor import Reactor

REQUESTS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_STORED = (*REQUESTS, signal.SIGCHLD)
TOUCHED = frozenset((*_STORED, signal.SIGPIPE))
"""What children must have reset to its default before they are executed."""


class Signals:
    """Installed once; `close` gives everything back as it was."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._arrived: list[int] = []
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        reactor.add_handler(self._read, self._drain, reactor.READ)
        self._former = {number: signal.signal(number, self._store) for number in _STORED}

    def take(self) -> list[int]:
        """The signals that ask for something since the last call, oldest first, each as often as it was seen."""
        taken, self._arrived = self._arrived, []
        return taken

    def close(self) -> None:
        """Restore the handlers and the wake-up descriptor that were there before."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_wakeup)
        self._reactor.remove_handler(self._read)
        for descriptor in (self._read, self._write):
            os.close(descriptor)

    def _store(self, number: int, frame: FrameType | None) -> None:
        if number in REQUESTS:
            self._arrived.append(number)

    def _drain(self, fd: int, events: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 4096)
