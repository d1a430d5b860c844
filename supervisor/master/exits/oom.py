"""What the kernel says about its out-of-memory killer: counters of our cgroup and the machine -> evidence. Master only.

SIGKILL alone proves nothing. The counter of our own cgroup having grown by at least as many kills as we have to explain
is `confirmed`; having grown by less, or only the whole machine's counter, is `suspected`. cgroup v2: `oom_kill` in
memory.events; v1: `oom_kill` in memory.oom_control; machine: `oom_kill` in /proc/vmstat.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/vmstat")


class OomWatch:
    """Remembers the counters; `evidence` says what they tell about kills since the last look."""

    def __init__(self, group: Path | None, machine: Path = _MACHINE) -> None:
        """`group`: the file with our cgroup's counter, see `group_counter`; None for none. `machine`: the file with the
        counter of the whole machine."""
        self._group, self._machine = group, machine
        self._seen = self._read()

    def evidence(self, kills: int) -> str:
        """What explains `kills` SIGKILLs that were not ours: "confirmed", "suspected" or "".

        With 0 it forgets what has happened up to now: it killed something else than our children.
        """
        before, self._seen = self._seen, self._read()
        in_group, in_machine = (now - then for now, then in zip(self._seen, before, strict=True))
        if not kills or max(in_group, in_machine) <= 0:
            return ""
        return "confirmed" if in_group >= kills else "suspected"

    def _read(self) -> tuple[int, int]:
        return _count(self._group), _count(self._machine)


def group_counter(membership: str, root: Path = _ROOT) -> Path | None:
    """The file that counts our cgroup's kills. `membership`: the text of /proc/self/cgroup (cgroups(7));
    `root`: the folder where cgroups are mounted.

    Inside a container the path may be seen from outside only; the mount's root is then our own group.
    """
    for line in membership.splitlines():
        _number, controllers, path = line.split(":", 2)
        base, name = (root, "memory.events") if not controllers else (root / "memory", "memory.oom_control")
        if controllers and "memory" not in controllers.split(","):
            continue
        found = next((file for file in (base / path.strip("/") / name, base / name) if file.exists()), None)
        if found is not None:
            return found
    return None


def _count(file: Path | None) -> int:
    text = b""
    if file is not None:
        with suppress(OSError):
            text = b"\n" + file.read_bytes()
    _before, _name, rest = text.partition(b"\noom_kill ")
    return int(rest.partition(b"\n")[0] or 0)
