"""The memory of a process, read by the master for busy workers, and by workers for themselves.

Limits are about private memory (USS), without the pages that a worker shares with its forkserver. The kernel walks all
page tables for that figure, so the resident size is read first: it is cheap and never smaller.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from supervisor.system import posix

_KIB = 1024


def resident_bytes(pid: int) -> int:
    """The resident size of a process; 0 if it is gone."""
    return posix.usage(pid).rss_bytes


def private_bytes(pid: int) -> int:
    """The private memory of a process; 0 if it is gone."""
    for name in ("smaps_rollup", "smaps"):  # a sandbox (gVisor) has only the longer one
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/{name}").read_bytes().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith(b"Private_")) * _KIB
    return 0


def exceeds(pid: int, limit_bytes: int) -> bool:
    """Whether a process has more private memory than `limit_bytes` (0: no limit)."""
    return limit_bytes > 0 and resident_bytes(pid) > limit_bytes and private_bytes(pid) > limit_bytes
