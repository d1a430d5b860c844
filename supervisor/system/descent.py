"""A mark that a process hands down to all its descendants: which pool, and which worker's life, they come from.

Set by the forkserver, the worker and the hooks process on themselves; read by the master, which must end what user code
leaves behind and must let everything else live that the kernel hands to it: as the init of a container it becomes the
parent of whatever loses its own (prctl(2) PR_SET_CHILD_SUBREAPER, pid_namespaces(7)).

The mark is the hard limit RLIMIT_RTTIME, in units that no process ever reaches (setrlimit(2)). Limits are inherited by
fork(2) and kept by execve(2), so it survives a new session, an empty environment and another user; it may be lowered
without privileges, never raised; every user may read it in /proc/PID/limits.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

_MAGIC = 0x2E57  # 2^61 microseconds and more: 73,000 years of real-time processor time
_POOL_BITS, _GENERATION_BITS = 16, 32
_ANY = (1 << _GENERATION_BITS) - 1  # a forkserver's: above all generations, so that its workers can lower it to theirs
_LABEL = b"Max realtime timeout"


class Descent(NamedTuple):
    """Where a process comes from. `generation`: the worker's; None for what a forkserver or the hooks process began."""

    pool_code: int
    generation: int | None

    def is_of(self, pool: str) -> bool:
        """Whether it comes from this pool."""
        return self.pool_code == pool_code(pool)


def pool_code(pool: str) -> int:
    """The number of a pool in a mark; "" is the hooks process."""
    return crc32(pool.encode()) & (1 << _POOL_BITS) - 1


def possible() -> bool:
    """Whether our children can carry a mark: not if a lower limit is set for us already."""
    return _allows(_value(pool_code=(1 << _POOL_BITS) - 1, generation=_ANY))


def mark(pool: str, generation: int | None = None) -> None:
    """Mark this process and all its descendants to come; nothing happens where that is not possible."""
    value = _value(pool_code(pool), _ANY if generation is None else generation)
    with suppress(OSError, ValueError):
        soft, _hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        soft = value if soft == resource.RLIM_INFINITY else min(soft, value)
        resource.setrlimit(resource.RLIMIT_RTTIME, (soft, value))


def descent(pid: int) -> Descent | None:
    """Where a process comes from, a zombie too; None when it has no mark. Raises OSError when that cannot be read."""
    for line in Path(f"/proc/{pid}/limits").read_bytes().splitlines():
        if line.startswith(_LABEL):
            hard = line[len(_LABEL) :].split()[1]
            return _decode(int(hard)) if hard.isdigit() else None
    return None


def _decode(value: int) -> Descent | None:
    if value >> _POOL_BITS + _GENERATION_BITS != _MAGIC:
        return None
    generation = value & _ANY
    code = value >> _GENERATION_BITS & (1 << _POOL_BITS) - 1
    return Descent(code, None if generation == _ANY else generation)


def _value(pool_code: int, generation: int) -> int:
    return (_MAGIC << _POOL_BITS | pool_code) << _GENERATION_BITS | generation


def _allows(value: int) -> bool:
    _soft, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    return hard == resource.RLIM_INFINITY or hard >= value
