"""How much memory a process has, asked by the master about busy workers, and by workers about themselves.

Private memory is what counts for limits (USS): a worker is not to blame for pages it shares with the forkserver. Its
exact figure walks all page tables, so the resident size is asked first: it is never smaller, and cheap.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from supervisor.system import posix

_KIB = 1024


def resident_bytes(pid: int) -> int:
    """The resident size of a process; 0 when it is gone."""
    return posix.usage(pid).rss_bytes


def private_bytes(pid: int) -> int:
    """What a process has for itself; 0 when it is gone."""
    for name in ("smaps_rollup", "smaps"):  # a sandbox (gVisor) has only the longer one
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/{name}").read_bytes().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith(b"Private_")) * _KIB
    return 0


def exceeds(pid: int, limit_bytes: int) -> bool:
    """Whether a process has more private memory than `limit_bytes` (0: no limit)."""
    return limit_bytes > 0 and resident_bytes(pid) > limit_bytes and private_bytes(pid) > limit_bytes
