"""The descent mark: all descendants of a process inherit it, and it names their pool and worker generation.

Set by the forkserver, the worker and the hooks process on themselves. The master reads it: it must end orphaned
descendants of user code, and no other orphan; in a container it may be the parent of all orphans (prctl(2)
PR_SET_CHILD_SUBREAPER, pid_namespaces(7)).

The mark is the hard limit RLIMIT_RTTIME, with a value that no process ever reaches (setrlimit(2)). Limits are inherited
by fork(2) and kept by execve(2), so the mark survives a new session, an empty environment and another user. Without
privileges it can be lowered, never raised. Every user can read it in /proc/PID/limits.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from supervisor.system import posix

_MAGIC = 0x2E57  # 2^61 microseconds and more: 73,000 years of real-time processor time
_POOL_BITS, _GENERATION_BITS = 16, 32
_ANY = (1 << _GENERATION_BITS) - 1  # a forkserver's: above all generations, so that its workers can lower it to theirs
_LABEL = b"Max realtime timeout"


class Descent(NamedTuple):
    """The origin of a process. `generation`: the worker's; None for those of a forkserver or the hooks process."""

    pool_code: int
    generation: int | None

    def is_of(self, pool: str) -> bool:
        """Whether the origin is this pool."""
        return self.pool_code == pool_code(pool)


def pool_code(pool: str) -> int:
    """The number of a pool in a mark; "" is the hooks process."""
    return crc32(pool.encode()) & (1 << _POOL_BITS) - 1


def possible() -> bool:
    """Whether children can carry a mark: not if this process already has a lower limit."""
    return _allows(_value(pool_code=(1 << _POOL_BITS) - 1, generation=_ANY))


def mark(pool: str, generation: int | None = None) -> None:
    """Mark this process and its future descendants, if possible. `generation` None: no worker's."""
    value = _value(pool_code(pool), _ANY if generation is None else generation)
    with suppress(OSError, ValueError):
        soft, _hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        soft = value if soft == resource.RLIM_INFINITY else min(soft, value)
        resource.setrlimit(resource.RLIMIT_RTTIME, (soft, value))


def descent(pid: int) -> Descent | None:
    """The origin of a process or zombie; None if it has no mark. Raises OSError if its limits cannot be read."""
    for line in Path(f"/proc/{pid}/limits").read_bytes().splitlines():
        if line.startswith(_LABEL):
            hard = line[len(_LABEL) :].split()[1]
            return _decode(int(hard)) if hard.isdigit() else None
    return None


def shortcomings() -> Iterator[str]:
    """One sentence for each missing feature of kernel or container by which descendants are found; often none."""
    if posix.start_ticks(os.getpid()) is None:
        yield (
            "/proc cannot be read: processes left by user code are not ended, so a message may run again beside them; "
            "mount /proc for this process"
        )
    elif not posix.lists_children():
        yield (
            "this kernel has no /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN): processes left by user code are "
            "looked for in all of /proc, which takes longer with each process on the machine"
        )
    if not possible():
        yield (
            "a limit RLIMIT_RTTIME is set, by which descendants of workers are recognised: "
            f"{_untold()}; start preforkd without that limit"
        )


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


def _untold() -> str:
    if os.getpid() == 1:
        return "as pid 1 it ends no process that user code leaves behind, so a message may run again beside it"
    return "every orphan that the kernel hands to the master is taken for one of user code and is ended"
