"""Ends what user code leaves behind: process groups, and orphans of workers, forkservers and hook commands.

Master only. A group id is the pid of its leader; it is trusted only while that very process is there, a zombie at
least, because afterwards the number may be given to another group.

An orphan becomes the master's child (child subreaper). Only descendants of our own children are ended; they carry a
mark (`supervisor/system/descent.py`). All other orphans that the kernel hands to us live on, and are reaped when they
end: children from before an `exec`, their orphans, and, as the init of a container, those of `docker exec`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool.pool import Pool
from supervisor.scoreboard.slot import Slot
from supervisor.system import descent, posix
from supervisor.system.descent import Descent
from supervisor.system.processes import command_line

UNKILLABLE_S = 1.0
"""How long a killed orphan may take to end before others go on without waiting for it."""


@dataclass
class Leftover:
    """An orphan of ours that is still there. `origin`: None where marks are not possible."""

    pid: int
    origin: Descent | None
    command: str
    since_s: float
    refused: bool = False

    @property
    def why(self) -> str:
        """Why it is still there, for people."""
        reason = "it belongs to another user" if self.refused else "it waits inside the kernel (state D)"
        return f"pid {self.pid} ({self.command}) was left behind by user code and cannot be ended: {reason}"

    def is_of(self, pool: str, generation: int | None) -> bool:
        """Whether a dead child of this pool has left it, as far as that is known. `generation`: a worker's, None for
        other children."""
        return self.origin is None or (self.origin.is_of(pool) and self.origin.generation == generation)


class Leftovers:
    """All orphans of ours that are there now. `ours(pid)`: whether a child is on the books, or goes on them now."""

    def __init__(self, ours: Callable[[int], bool], own: Collection[int]) -> None:
        """`own`: the children on the books; all others there are now were here before us."""
        self._ours = ours
        self._inherited = set(posix.own_children()) - set(own)
        self._marked = descent.possible()
        self._present: dict[int, Leftover] = {}

    def ignore(self, pid: int) -> None:
        """This child is neither on the books nor an orphan."""
        self._inherited.add(pid)

    def end(self, now_s: float) -> list[Leftover]:
        """Kill them all; those that are there."""
        found = [pid for pid in posix.own_children() if pid not in self._inherited and not self._ours(pid)]
        for pid in found:
            if pid not in self._present and (leftover := self._look(pid, now_s)) is not None:
                self._present[pid] = leftover
        for leftover in self._present.values():
            leftover.refused = not _kill(leftover.pid)
        return list(self._present.values())

    def note_overdue(self, pools: Iterable[Pool], now_s: float) -> None:
        """Keep the pools' symptoms about those that should have ended by now and have not."""
        overdue = [each for each in self._present.values() if now_s >= each.since_s + UNKILLABLE_S]
        for pool in pools:
            reasons = [each.why for each in overdue if each.origin is None or each.origin.is_of(pool.name)]
            if reasons:
                text = f"{'; '.join(reasons)}; if its worker is dead, its message is not run again before that"
                pool.symptoms.notice(Event.STRANGER_UNKILLABLE, text, degrades=True)
            else:
                pool.symptoms.heal(Event.STRANGER_UNKILLABLE)

    def ended(self, pid: int) -> None:
        """A process was reaped that is not on the books."""
        self._inherited.discard(pid)
        leftover = self._present.pop(pid, None)
        if leftover is not None and leftover.command:
            text = f"ended pid {pid}, which user code left behind: {leftover.command}"
            log(Event.STRANGER_ENDED, text, pid=pid, command=leftover.command)

    def may_end(self, pid: int) -> bool:
        """Whether what shares the process group of this dead child is ours to end."""
        if pid in self._present or not self._marked:
            return pid not in self._inherited
        with suppress(OSError):
            return descent.descent(pid) is not None
        return False

    def _look(self, pid: int, now_s: float) -> Leftover | None:
        """None for a process that is no descendant of ours."""
        if not self._marked:
            return self._unmarked(pid, now_s)
        try:
            origin = descent.descent(pid)
        except (FileNotFoundError, PermissionError):  # hidden (hidepid): until we reap it, it is there
            return self._unmarked(pid, now_s)
        except OSError:
            return None  # it has ended
        return None if origin is None else Leftover(pid, origin, _command(pid), now_s)

    def _unmarked(self, pid: int, now_s: float) -> Leftover | None:
        """An init gets orphans of other programs, another master does not."""
        return None if os.getpid() == 1 else Leftover(pid, None, _command(pid), now_s)


def kill_group(leader: int) -> None:
    """Kill the group of a child with the pid `leader` that was not waited for yet: until then its number is its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def end_group(leader: int, ticks: int) -> None:
    """Kill the group led by the process `leader` that started at `ticks`; nothing when that process has ended."""
    if posix.start_ticks(leader) == ticks:
        kill_group(leader)


def end_recorded_group(slot: Slot) -> None:
    """Kill the group that a handler put on record in its worker's slot."""
    group = slot.group()
    if group is not None:
        end_group(*group)


def _kill(pid: int) -> bool:
    """False when we may not."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return True


def _command(pid: int) -> str:
    """Its name; "" for a process that has been ended already, as a standby is with its forkserver."""
    if posix.is_dying(pid):
        return ""
    return command_line(pid)[:200] or "?"
