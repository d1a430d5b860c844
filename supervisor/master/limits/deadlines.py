"""Time limits as the master sees them: it is the backstop for workers whose own timer cannot fire. Pure; master only.

A worker ends itself at its deadline; only one that is stuck in C code or ignores its timer is still running
`kill_grace` later. A look at all marks is due when the earliest known limit is, or the earliest one that could have
begun since. When the look itself comes late (suspend, frozen cgroup), no child could have been on time: one more grace
for each run.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from supervisor.config.schema import PoolConfig
from supervisor.scoreboard.words import Running

LATE_S = 1.0
"""A look that is later than this means that the master, and perhaps no process, was running."""

_SHORTEST_LOOK_S = 0.1
_REMEMBERED_S = 3600.0


def horizon_s(config: PoolConfig) -> float:
    """How soon a run that begins now can be overdue at the earliest, in seconds."""
    shortest_s = 0.0 if config.timeout_header else config.timeout_s
    return max(_SHORTEST_LOOK_S, shortest_s + config.kill_grace_s)


class Graces:
    """Grace for children because the looks came late: once for each incident (a run, a beat that stands still).

    A master that is late at every look would otherwise forgive for ever. Times are CLOCK_MONOTONIC.
    """

    def __init__(self) -> None:
        self._late_s = float("-inf")
        self._given: dict[Hashable, float] = {}

    def notice(self, due_s: float, now_s: float) -> None:
        """A look that was due at `due_s` begins."""
        if now_s - due_s > LATE_S:
            self._late_s = now_s
            self._given = {incident: at_s for incident, at_s in self._given.items() if at_s > now_s - _REMEMBERED_S}

    def start_s(self, incident: Hashable, since_s: float) -> float:
        """From when on the grace of this incident counts: since it began, or since a late look after that."""
        if self._late_s > since_s:
            self._given.setdefault(incident, self._late_s)
        return max(since_s, self._given.get(incident, since_s))


class Deadlines:
    """When the next look is due, and which children get a grace. Times are CLOCK_MONOTONIC."""

    def __init__(self, now_s: float) -> None:
        self.due_s = now_s
        self._graces = Graces()

    def arrive(self, now_s: float, pools: Iterable[PoolConfig]) -> None:
        """A look begins: note whether it is late, and plan the next one for runs that may begin meanwhile."""
        self._graces.notice(self.due_s, now_s)
        self.due_s = now_s + min((horizon_s(pool) for pool in pools), default=3600.0)

    def overdue(self, running: Running, config: PoolConfig, now_s: float) -> bool:
        """Whether this run must be ended now; if not, the next look is not later than it can be due."""
        if not running.deadline_s:
            return False
        limit_s = self._graces.start_s((running.run, running.started_s), running.deadline_s) + config.kill_grace_s
        if now_s >= limit_s:
            return True
        self.due_s = min(self.due_s, limit_s)
        return False
