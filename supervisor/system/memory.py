"""How much memory a process may have: that of the machine, and the limits of its cgroups, nested ones too. No state.

Used by the command line, for `check` and `scale`. Sources: cgroups(7); Documentation/admin-guide/cgroup-v2.rst
(memory.max, memory.current) and cgroup-v1/memory.rst; proc(5), meminfo. A limit counts for all groups below, so each
group on the way to the root is read. In a container the root that can be seen is the container's own group.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_UNLIMITED_BYTES = 2**60
"""From here on a limit of version 1 is none: it has the largest number of pages."""


MACHINE = "this machine"


class Room(NamedTuple):
    """A limit, and the memory below it that is free or can be reclaimed. `of`: what has it, in a text for people."""

    limit_bytes: int
    available_bytes: int
    of: str


class _Version(NamedTuple):
    limit: str
    used: str
    cached: str  # in memory.stat: file pages that have not been used lately


_VERSIONS = {
    True: _Version("memory.max", "memory.current", "inactive_file"),
    False: _Version("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By whether it is version 2."""


def rooms(pid: int | None = None, root: Path = ROOT, proc: Path = _PROC) -> list[Room]:
    """That of the machine first, then one for each cgroup of the process with a limit. `pid`: None for this process.

    `root`: where cgroups are mounted. A process that is gone has the machine's alone.
    """
    return [_machine(proc), *_groups(_text(proc / str(pid or "self") / "cgroup"), root)]


def _machine(proc: Path) -> Room:
    facts = dict(line.split(":", 1) for line in _text(proc / "meminfo").splitlines() if ":" in line)
    total, available = (int(facts.get(name, "0 kB").split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return Room(total, available, MACHINE)


def _groups(membership: str, root: Path) -> Iterator[Room]:
    for line in membership.splitlines():
        _number, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            version = _VERSIONS[not controllers]
            base = root if not controllers else root / "memory"
            for folder in _ancestors(base, path):
                yield from _room(folder, version)


def _ancestors(base: Path, path: str) -> list[Path]:
    """The folders of a group and of those around it, as far as they can be seen."""
    inner = base / path.strip("/")
    if ".." in inner.parts or not inner.is_dir():
        return [base]
    return [folder for folder in (inner, *inner.parents) if folder == base or base in folder.parents]


def _room(folder: Path, version: _Version) -> Iterator[Room]:
    limit = _text(folder / version.limit).strip()
    if not limit.isdecimal() or int(limit) >= _UNLIMITED_BYTES:
        return
    with suppress(ValueError):
        used = int(_text(folder / version.used))
        stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
        available = int(limit) - used + int(stat.get(version.cached, 0))
        yield Room(
            int(limit), max(0, min(available, int(limit))), f"the container or service ({folder / version.limit})"
        )


def _text(file: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return file.read_text()
    return ""
