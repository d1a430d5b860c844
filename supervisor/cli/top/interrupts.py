"""The signals that reach a live view. A handler only stores (and wakes the loop); the loop acts.

A process that is ended by a signal gives the terminal back first and then dies of that very signal, as its parent
expects; one that is suspended gives it back, too, and takes it again when it goes on.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

from supervisor.reactor import Reactor

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STORED = (*ENDS, signal.SIGTSTP, signal.SIGWINCH)


class Interrupts:
    """Installed from the moment it is made until `close()`."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._arrived: list[int] = []
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        reactor.add_handler(self._read, self._drain, reactor.READ)
        self._former = {number: signal.signal(number, self._store) for number in _STORED}

    def take(self) -> list[int]:
        """The signals since the last call, oldest first."""
        taken, self._arrived = self._arrived, []
        return taken

    def close(self) -> None:
        """Restore what was there before."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_wakeup)
        self._reactor.remove_handler(self._read)
        for descriptor in (self._read, self._write):
            os.close(descriptor)

    def suspend(self) -> None:
        """Stand still until somebody says SIGCONT."""
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._store)

    def _store(self, number: int, frame: FrameType | None) -> None:
        self._arrived.append(number)

    def _drain(self, fd: int, events: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 4096)


def die_of(number: int) -> None:
    """End this process by the signal it was sent."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(signal.Signals(number))
