"""What the kernel tells of a tree of processes in /proc: who is in it, its memory (smaps_rollup), its processor time.

Memory is shared in a pre-fork tree, so two figures count: PSS, which adds up over the tree to what it really occupies,
and USS, what one process has for itself. Processor time is schedstat's, in nanoseconds; a tick of utime is 10 ms, more
than an idle process needs in 20 s. Threads that end between two looks are not in it: no process measured here has such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_KIB = 1024
_OURS = "preforkd: "


@dataclass(frozen=True)
class Memory:
    """Of one process or, added up, of several. In bytes."""

    pss: int
    uss: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.pss + other.pss, self.uss + other.uss)


NOTHING = Memory(0, 0)


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    return [pid, *(found for child in _children(pid) for found in tree(child))]


def kind(pid: int) -> str:
    """`master`, `forkserver`, `consumer`, `worker` of preforkd, from their titles; `other` for everything else."""
    title = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    return title.removeprefix(_OURS).split(" ")[0] if title.startswith(_OURS) else "other"


def by_kind(pids: Iterable[int]) -> dict[str, list[int]]:
    """Kind → its processes."""
    found: dict[str, list[int]] = {}
    for pid in pids:
        found.setdefault(kind(pid), []).append(pid)
    return found


def memory(pids: Iterable[int]) -> Memory:
    """Of all of them; one that has ended has none."""
    return sum((_memory(pid) for pid in pids), NOTHING)


def cpu_us(pids: Iterable[int]) -> dict[int, float]:
    """Process → microseconds it has spent on a processor, all its threads together."""
    return {pid: _cpu_us(pid) for pid in pids}


def spent_us(before: dict[int, float], after: dict[int, float]) -> Counter[str]:
    """Kind → microseconds between two looks, for those that are in both."""
    spent: Counter[str] = Counter()
    for pid in before.keys() & after.keys():
        spent[kind(pid)] += after[pid] - before[pid]  # type: ignore[assignment]
    return spent


def _children(pid: int) -> Iterator[int]:
    with suppress(OSError):  # it has just ended
        for task in (_PROC / str(pid) / "task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def _memory(pid: int) -> Memory:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return NOTHING
    sizes = {name: int(size.split()[0]) * _KIB for name, _, size in (line.partition(":") for line in lines)}
    return Memory(sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def _cpu_us(pid: int) -> float:
    spent_ns = 0
    for task in (_PROC / str(pid) / "task").iterdir():
        with suppress(OSError):
            spent_ns += int((task / "schedstat").read_text().split()[0])
    return spent_ns / 1e3
