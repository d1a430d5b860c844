"""Buries dead children: the order that makes death one fact from one place. Master only.

waitid(WNOWAIT) finds a dead child while its pid cannot be given away -> its process groups are killed -> wait4 takes
its status and usage -> strangers that it left to us are killed, until none is left. Only then are the dead handed out,
for the exit record and then the verdict: no re-run begins before the earlier run, its grandchildren included, is over.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from resource import struct_rusage

from supervisor import posix
from supervisor.clock import monotonic_s
from supervisor.events import Event
from supervisor.logs import log
from supervisor.master.children import Child, Children
from supervisor.master.groups import end_recorded_group, kill_group
from supervisor.master.pool import Pool

LOOK_S = 10.0
"""How often strangers are looked for while nobody dies: a living worker's handler may have left one, too."""


@dataclass(frozen=True)
class Corpse:
    """A child that was waited for. `died_s` is CLOCK_MONOTONIC."""

    child: Child
    wait_status: int
    usage: struct_rusage
    died_s: float


class Undertaker:
    """Finds the dead and everything they left. Children that this process had before (a shell's `exec`) are let be."""

    def __init__(self, pools: Collection[Pool], children: Children) -> None:
        self._pools = pools
        self._children = children
        self._inherited = set(posix.own_children()) - {child.pid for child in children}
        self._waiting: list[Corpse] = []
        self._named: set[int] = set()
        self._look_due_s = 0.0

    def bury(self) -> list[Corpse]:
        """All dead children whose death is complete; [] also while strangers of theirs are still dying."""
        found = self._wait_for_all()
        if not found and not self._waiting and monotonic_s() < self._look_due_s:
            return []
        self._look_due_s = monotonic_s() + LOOK_S
        while self._end_strangers():
            if not self._wait_for_all():  # they take their time to die: SIGCHLD brings us back
                return []
        self._named.clear()
        complete, self._waiting = self._waiting, []
        return complete

    def _wait_for_all(self) -> int:
        found = 0
        with suppress(ChildProcessError):
            while (info := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                self._wait_for(info.si_pid)
                found += 1
        return found

    def _wait_for(self, pid: int) -> None:
        # fail-point: master.dead-found: a child is dead and a zombie
        child = self._child(pid)
        self._inherited.discard(pid)
        kill_group(pid)
        if child is not None and child.slot is not None:
            end_recorded_group(self._pool(child).slots[child.slot])
        # fail-point: master.group-ended: the dead child's groups are killed, it is a zombie
        _pid, wait_status, usage = os.wait4(pid, 0)
        # fail-point: master.waited: its status is known to us alone
        if child is not None:
            self._children.remove(pid)
            self._waiting.append(Corpse(child, wait_status, usage, monotonic_s()))

    def _child(self, pid: int) -> Child | None:
        """Whose body this is; a worker that died before its birth was reported is named in its slot."""
        known = self._children.get(pid)
        return known or self._adopt(pid)

    def _pool(self, child: Child) -> Pool:
        return next(pool for pool in self._pools if pool.name == child.pool)

    def _adopt(self, pid: int) -> Child | None:
        for pool in self._pools:
            number = pool.find_slot(pid)
            if number is not None:
                return pool.adopt(number, monotonic_s())
        return None

    def _end_strangers(self) -> bool:
        """Kill whatever we have adopted and nobody named; True while there was any."""
        unknown = [pid for pid in posix.own_children() if pid not in self._children and pid not in self._inherited]
        strangers = [pid for pid in unknown if not self._adopt(pid)]
        for pid in strangers:
            self._name(pid)
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return bool(strangers)

    def _name(self, pid: int) -> None:
        if pid in self._named or posix.is_dying(pid):  # a standby is, when its forkserver has died
            return
        self._named.add(pid)
        command = _command(pid)
        log(Event.STRANGER_ENDED, f"ended pid {pid}, which user code left behind: {command}", pid=pid, command=command)


def _command(pid: int) -> str:
    with suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return line[:200] or Path(f"/proc/{pid}/comm").read_text().strip()
    return "?"
