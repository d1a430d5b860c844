"""Private memory of processes, from /proc. Used by the master on busy workers only.

Pages shared with the forkserver do not count: a worker is not to blame for what was preloaded. Reading the exact figure
walks the page tables, so the resident size, which is never smaller, is asked first.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LOOK_S = 1.0
"""How often busy workers are looked at."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """The resident size of a process (statm, proc(5)); 0 when it is gone."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    return 0


def private_bytes(pid: int) -> int:
    """What a process has for itself (Private_* of smaps_rollup, proc(5)); 0 when it is gone."""
    total_kib = 0
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Private_"):
                total_kib += int(line.split()[1])
    return total_kib * 1024


def exceeds(pid: int, limit_bytes: int) -> bool:
    """Whether a process has more private memory than `limit_bytes` (0: no limit)."""
    return limit_bytes > 0 and resident_bytes(pid) > limit_bytes and private_bytes(pid) > limit_bytes
