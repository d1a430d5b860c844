"""Signals that a handler only stores and a loop acts upon: for the master, and for a live view.

Python's wake-up descriptor (signal.set_wakeup_fd, a self-pipe) ends the loop's wait. A list holds the signals, so that
a full pipe loses none.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType

from supervisor.system.reactor import Reactor


class StoredSignals:
    """Installed by the constructor, removed by `close()`.

    `requests`: signals that are stored; `wakes`: signals that only end the loop's wait.
    """

    def __init__(self, reactor: Reactor, requests: Iterable[int], wakes: Iterable[int] = ()) -> None:
        self._reactor = reactor
        self._requests = frozenset(requests)
        self._arrived: list[int] = []
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        reactor.add_handler(self._read, self._drain, reactor.READ)
        self._former = {number: signal.signal(number, self._store) for number in (*self._requests, *wakes)}

    def take(self) -> list[int]:
        """The requests since the last call, oldest first, each as often as it came."""
        taken, self._arrived = self._arrived, []
        return taken

    def close(self) -> None:
        """Restore the handlers and the wake-up descriptor that were there before."""
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python
        signal.set_wakeup_fd(self._former_wakeup)
        self._reactor.remove_handler(self._read)
        for descriptor in (self._read, self._write):
            os.close(descriptor)

    def _store(self, number: int, frame: FrameType | None) -> None:
        if number in self._requests:
            self._arrived.append(number)

    def _drain(self, fd: int, events: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 4096)
