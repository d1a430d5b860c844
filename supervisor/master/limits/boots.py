"""Children up to their first progress: boots that hang end, and progress clears former deaths. Master only.

A forkserver that imports and a worker in its `init` are in user code and show no progress; all there is to judge by is
time. SIGQUIT first, for the stacks; then SIGKILL, which is recorded as a failed boot. A consumer's boot is not judged:
it may wait for its broker for hours, and the hang detector watches its loop.

A hold, and the degradation of its pool, end with progress (`restarts.py`) and not with readiness: a child spec whose
children die a moment after they are ready would else recover again and again.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterator

from supervisor.master.limits.deadlines import LATE_S
from supervisor.master.pool import signalling
from supervisor.master.pool.children import SIDECARS, Child, ChildSpec, Kind
from supervisor.master.pool.owner import Owner
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import STEADY_S, Lifetime
from supervisor.scoreboard.words import Intent

REQUESTED_BY = "boot_timeout"
_DUMP_S = 1.0


class Boots:
    """The booting children of all pools. `due_s`: when `turn` is needed next (CLOCK_MONOTONIC)."""

    does = "end boots that hang"

    def __init__(self, pools: Collection[Pool], others: Collection[Owner] = ()) -> None:
        self._pools = pools
        self._others = others
        self._forgiven_s = float("-inf")
        self._over_limit: dict[int, float] = {}  # by pid: when to kill, or to kill again
        self._planned_s = float("inf")

    @property
    def due_s(self) -> float:
        """The earliest end of a boot's time, or of the time for a dump."""
        self._planned_s = min((self._end_s(owner, child) for owner, child in self._booting()), default=float("inf"))
        return self._planned_s

    def turn(self, now_s: float) -> None:
        """Ask a child whose time is over for its stacks; kill it a moment later if it still boots."""
        if now_s - self._planned_s > LATE_S:  # this process was not running, and perhaps no other was
            self._forgiven_s = now_s
        booting = list(self._booting())
        pids = {child.pid for _owner, child in booting}
        self._over_limit = {pid: due_s for pid, due_s in self._over_limit.items() if pid in pids}
        for owner, child in booting:
            if now_s >= self._end_s(owner, child):
                self._proceed(child, now_s)

    def _proceed(self, child: Child, now_s: float) -> None:
        dumps_stacks = child.pid not in self._over_limit and child.kind not in SIDECARS
        if child.pid not in self._over_limit:
            child.mark(Intent.BOOT_KILL, REQUESTED_BY)
        signalling.send(child, signal.SIGQUIT if dumps_stacks else signal.SIGKILL, now_s)
        self._over_limit[child.pid] = now_s + _DUMP_S

    def _end_s(self, owner: Owner, child: Child) -> float:
        allowed_s = max(child.started_s, self._forgiven_s) + owner.config.boot_timeout_s
        return self._over_limit.get(child.pid, allowed_s)

    def _booting(self) -> Iterator[tuple[Owner, Child]]:
        for owner in (*self._pools, *self._others):
            candidate = owner.plan.candidate if isinstance(owner, Pool) else None
            for child in (spec.child for spec in (*owner.specs, candidate) if spec is not None):
                if child is None or child.ready_s is not None or child.kind is Kind.CONSUMER:
                    continue
                if child.intent in (Intent.NONE, Intent.BOOT_KILL):
                    yield owner, child


class Probation:
    """Clears the deaths of child specs whose child has made progress. Looks at those that had deaths and have a child
    again. `due_s`: when time alone clears the next one (CLOCK_MONOTONIC)."""

    does = "clear what has made progress"

    def __init__(self, pools: Collection[Owner], others: Collection[Owner] = ()) -> None:
        self._pools = pools
        self._others = others

    @property
    def due_s(self) -> float:
        """The earliest end of the time after which a child that is ready has made progress."""
        ready = (child.ready_s for _spec, child in self._suspects() if child.ready_s is not None)
        return min(ready, default=float("inf")) + STEADY_S

    def turn(self, now_s: float) -> None:
        """Clear the child specs whose child has made progress."""
        for spec, child in self._suspects():
            ready_for_s = None if child.ready_s is None else now_s - child.ready_s
            if Lifetime(ready_for_s, child.slot_file.handled if child.slot_file is not None else 0).progressed:
                spec.clear()

    def _suspects(self) -> Iterator[tuple[ChildSpec, Child]]:
        for owner in (*self._pools, *self._others):
            for spec in owner.specs:
                if spec.child is not None and (spec.deaths or spec.held):
                    yield spec, spec.child
