"""Reaps dead children: the order that makes death one fact from one place. Master only.

waitid(WNOWAIT) finds a dead child while its pid cannot be given away -> its process groups are killed -> wait4 takes
its status and usage -> orphans that it left to us are killed, until none is left. Only then is the dead child handed
out, for the exit record and the exit notice: no re-run begins before the earlier run, its grandchildren included, is
over. An orphan that does not end is waited for with a bound. Then its worker is handed out as `delayed`: it is recorded
and replaced, and its exit notice waits while it `has_orphans`. All others wait for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from resource import struct_rusage

from supervisor.master.exits.orphans import UNKILLABLE_S, Leftover, Leftovers, end_recorded_group, kill_group
from supervisor.master.pool.adoption import adopt_process
from supervisor.master.pool.children import Child, Children, Kind
from supervisor.master.pool.pool import Pool
from supervisor.system.clock import monotonic_s

LOOK_S = 10.0
"""How often orphans are looked for while no child dies: a living worker's handler may have left one, too."""

_AGAIN_S = 1.0
"""How often an orphan that does not end is killed again."""


@dataclass(frozen=True)
class ReapedChild:
    """A child that was waited for. `died_s` is CLOCK_MONOTONIC. `delayed`: whether its exit notice must wait."""

    child: Child
    wait_status: int
    usage: struct_rusage
    died_s: float
    delayed: bool = False


class Reaper:
    """Finds the dead and everything they left."""

    def __init__(self, pools: Collection[Pool], children: Children) -> None:
        self._pools = pools
        self._children = children
        self._leftovers = Leftovers(lambda pid: self._child(pid) is not None, [child.pid for child in children])
        self._waiting: list[ReapedChild] = []
        self._left: list[Leftover] = []
        self._look_due_s = 0.0

    @property
    def due_s(self) -> float:
        """When `reap` is needed next without a SIGCHLD (CLOCK_MONOTONIC)."""
        return min((reaped.died_s + UNKILLABLE_S for reaped in self._waiting), default=self._look_due_s)

    def ignore(self, pid: int) -> None:
        """Only reap this child when it ends."""
        self._leftovers.ignore(pid)

    def reap(self) -> list[ReapedChild]:
        """Dead children, once their orphans have ended or had the time for it."""
        found, now_s = self._wait_for_all(), monotonic_s()
        if not found and not self._waiting and now_s < self._look_due_s:
            return []
        self._left = self._leftovers.end(now_s)
        while self._left and self._wait_for_all():
            self._left = self._leftovers.end(now_s)
        self._look_due_s = now_s + (_AGAIN_S if self._left else LOOK_S)
        self._leftovers.note_overdue(self._pools, now_s)
        return self._hand_out(now_s)

    def has_orphans(self, pool: str, generation: int | None) -> bool:
        """Whether an orphan of a dead child was there at the last look. `generation`: a worker's, None for others."""
        return any(leftover.is_of(pool, generation) for leftover in self._left)

    def give_up(self) -> list[ReapedChild]:
        """All dead children that still wait, at the end of a stop: every death gets its record."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def _hand_out(self, now_s: float) -> list[ReapedChild]:
        complete = []
        for reaped in list(self._waiting):
            child = reaped.child
            delayed = self.has_orphans(child.pool, child.generation if child.kind is Kind.WORKER else None)
            if delayed and now_s < reaped.died_s + UNKILLABLE_S:
                continue
            self._waiting.remove(reaped)
            complete.append(replace(reaped, delayed=delayed and child.kind is Kind.WORKER))
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
        if child is not None or self._leftovers.may_end(pid):
            kill_group(pid)
        if child is not None and child.slot_file is not None:
            end_recorded_group(child.slot_file)
        # fail-point: master.group-ended: the dead child's groups are killed, it is a zombie
        _pid, wait_status, usage = os.wait4(pid, 0)
        # fail-point: master.waited: its status is known to us alone
        if child is None:
            self._leftovers.ended(pid)
        else:
            self._children.remove(pid)
            self._waiting.append(ReapedChild(child, wait_status, usage, monotonic_s()))

    def _child(self, pid: int) -> Child | None:
        """The child with this pid; a worker whose fork was not reported yet is named in its slot."""
        known = self._children.get(pid)
        return known or adopt_process(self._pools, pid, monotonic_s())
