"""Ends children that do not become ready: an import or an `init` that hangs. Master only.

A forkserver that imports and a worker in its `init` are in user code and show no progress; all there is to judge by is
time. SIGQUIT first, for the stacks; then SIGKILL, which is recorded as a failed boot. A consumer is not judged here:
it may wait for its broker for hours, and the hang detector watches its loop.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterator

from supervisor.master.host import signalling
from supervisor.master.limits.deadlines import LATE_S
from supervisor.master.pool.children import SIDECARS, Child, Kind
from supervisor.master.pool.owner import Owner
from supervisor.master.pool.pool import Pool
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
        self._over_limit = {
            child.pid: self._over_limit[child.pid] for _, child in booting if child.pid in self._over_limit
        }
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
        allowed_s = max(child.started_s, self._forgiven_s) + owner.policy.boot_timeout_s
        return self._over_limit.get(child.pid, allowed_s)

    def _booting(self) -> Iterator[tuple[Owner, Child]]:
        for owner in (*self._pools, *self._others):
            candidate = owner.plan.candidate if isinstance(owner, Pool) else None
            for child in (spec.child for spec in (*owner.specs, candidate) if spec is not None):
                if child is None or child.ready_s is not None or child.kind is Kind.CONSUMER:
                    continue
                if child.intent in (Intent.NONE, Intent.BOOT_KILL):
                    yield owner, child
