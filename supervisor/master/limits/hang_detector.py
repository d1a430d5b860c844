"""Ends forkservers and consumers that live but make no progress (stopped, hung). Master only.

Pid, socket and lock of such a process look healthy; only its heartbeat on the pool's board stands still. Killing it is
safe: workers go on, and its successor finds everything in slots and ledger. SIGQUIT first, for the stacks.
"""

from __future__ import annotations

import signal
from collections.abc import Collection

from supervisor.master.limits.deadlines import Graces
from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.signalling import send
from supervisor.scoreboard.board import CONSUMER, FORKSERVER
from supervisor.scoreboard.words import Intent

STALE_S = 30.0
_LOOKS = 6  # per STALE_S
_DUMP_S = 1.0


class HangDetector:
    """Looks at every board now and then. `due_s`: when next (CLOCK_MONOTONIC)."""

    does = "end children that hang"

    def __init__(self, pools: Collection[Pool], now_s: float, stale_s: float = STALE_S) -> None:
        self._pools = pools
        self._stale_s = stale_s
        self.due_s = now_s + stale_s / _LOOKS
        self._graces = Graces()
        self._over_limit: dict[int, tuple[Child, float]] = {}

    def turn(self, now_s: float) -> None:
        """Send SIGQUIT (stack dump) to hung children, and SIGKILL to those that got SIGQUIT a moment ago."""
        if now_s < self.due_s:
            return
        self._graces.notice(self.due_s, now_s)  # late: this process was not running, perhaps no process was
        self.due_s = now_s + self._stale_s / _LOOKS
        for pool in self._pools:
            for spec in (pool.forkserver, pool.consumer):
                self._look(pool, spec, now_s)
        self._kill_hung(now_s)

    def _look(self, pool: Pool, spec: ChildSpec, now_s: float) -> None:
        child = spec.child
        if child is None or child.pid in self._over_limit:
            return
        if child.kind is Kind.FORKSERVER and child.ready_s is None:  # it imports: in user code it cannot beat
            return
        beat_s = pool.board.beat_s(CONSUMER if spec.kind is Kind.CONSUMER else FORKSERVER)
        since_s = max(beat_s, child.ready_s or child.started_s)
        if now_s - self._graces.start_s((child.pid, since_s), since_s) < self._stale_s:
            return
        child.mark(Intent.TIMEOUT_KILL, f"no progress for {self._stale_s:.0f} s")
        send(child, signal.SIGQUIT, now_s)
        self._over_limit[child.pid] = (child, now_s + _DUMP_S)

    def _kill_hung(self, now_s: float) -> None:
        for pid, (child, due_s) in list(self._over_limit.items()):
            if now_s >= due_s:
                send(child, signal.SIGKILL, now_s)
                del self._over_limit[pid]
            else:
                self.due_s = min(self.due_s, due_s)
