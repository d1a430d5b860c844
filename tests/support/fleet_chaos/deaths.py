"""When each process that ran a message has ended, by the kernel: no host need be alive to say so."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress


class Deaths:
    """Watches processes by descriptors. `at_s`: for each that has ended the wall time at which that was seen."""

    def __init__(self) -> None:
        self.at_s: dict[int, float] = {}
        self._descriptors: dict[int, int] = {}
        self._poll = select.poll()

    def watch(self, pid: int) -> None:
        """From now on. A process that has been watched before is another one if that one has ended."""
        if pid in self._descriptors.values():
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self.at_s.setdefault(pid, time.time())
            return
        self.at_s.pop(pid, None)
        self._descriptors[descriptor] = pid
        self._poll.register(descriptor, select.POLLIN)

    def look(self) -> None:
        """Note what has ended."""
        for descriptor, _ready in self._poll.poll(0):
            self._poll.unregister(descriptor)
            self.at_s[self._descriptors.pop(descriptor)] = time.time()
            os.close(descriptor)

    def close(self) -> None:
        """Give all descriptors back."""
        for descriptor in self._descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self._descriptors.clear()
