"""Several descriptors and a timer behind one descriptor, for an owner whose users can wait for a single one.

Used by the consumer: a ledger gives its loop one descriptor (`Ledger.fileno`), whatever the ledger waits for itself.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from supervisor.system.clock import boottime_s
from supervisor.system.posix import new_timer, set_timer

READ, WRITE = select.EPOLLIN, select.EPOLLOUT

_NEVER_S = float("inf")


class DescriptorSet:
    """An epoll(7) descriptor: readable while a watched descriptor is ready, and from the time of `wake_at` on.

    Times are those of CLOCK_BOOTTIME. Raises OSError: no descriptors are left.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        try:
            self._timer = new_timer(time.CLOCK_BOOTTIME)
        except OSError:
            self._epoll.close()
            raise
        self._epoll.register(self._timer, READ)
        self._wakes_s = _NEVER_S

    def fileno(self) -> int:
        """The one descriptor."""
        return self._epoll.fileno()

    def watch(self, fd: int, events: int) -> None:
        """Be readable while one of `events` (READ, WRITE) holds on `fd`.

        It may be given again: with other events, or after a library has closed it and got the same number again.
        """
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:  # new, or closed in between: the kernel forgets a closed one
            self._epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Watch `fd` no longer; nothing is changed if it is not watched, or was closed."""
        with suppress(OSError):
            self._epoll.unregister(fd)

    def wake_at(self, due_s: float) -> None:
        """Be readable at `due_s` at the latest; infinite: never. An earlier time of a former call counts, once."""
        now_s = boottime_s()
        over = self._wakes_s <= now_s
        if over or due_s < self._wakes_s:
            self._wakes_s = due_s
            set_timer(self._timer, due_s - now_s if due_s < _NEVER_S else None)

    def close(self) -> None:
        """Give the descriptors back; those that were watched are their owners'."""
        self._epoll.close()
        os.close(self._timer)
