"""How many descriptors a process has open, and which of them can be read: a test of what gives everything back counts
them before and after."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Protocol


class _HasDescriptor(Protocol):
    def fileno(self) -> int: ...


def descriptors(pid: int | None = None) -> int:
    """Those of a process; of this one when none is named."""
    return len(list(Path(f"/proc/{pid or os.getpid()}/fd").iterdir()))


def readable(*ends: int | _HasDescriptor, within_s: float = 0.0) -> list[int]:
    """The descriptors of those that can be read, within so many seconds; select(2) ends at descriptor 1023."""
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(within_s * 1000)]
