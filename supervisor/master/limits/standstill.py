"""Symptoms of pools that stand still without an exit. Master only.

`pool.unmanned`: for a while there has been no worker that is ready, or no consumer. `worker.stopped`: a worker is
stopped (SIGSTOP, a debugger) in a run without a time limit, so that nothing else will ever end it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from supervisor.logs.events import Event
from supervisor.master.limits.deadlines import LATE_S
from supervisor.master.pool.children import Child
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.state import cut_off, pool_state
from supervisor.system import posix

LOOK_S = 5.0
UNMANNED_S = 10.0
"""A replacement takes milliseconds, a slow `init` seconds: longer than this is news."""


class Standstill:
    """Looks at all pools now and then. `due_s`: when `turn` is needed next (CLOCK_MONOTONIC)."""

    does = "watch for pools that stand still"

    def __init__(self, pools: Collection[Pool]) -> None:
        self._pools = pools
        self.due_s = 0.0
        self._unmanned_since_s: dict[str, float] = {}
        self._stopped: set[int] = set()

    def turn(self, now_s: float) -> None:
        """Notice and heal."""
        if now_s < self.due_s:
            return
        late = self.due_s > 0.0 and now_s - self.due_s > LATE_S  # perhaps no process was running
        self.due_s = now_s + LOOK_S
        if late:
            self._unmanned_since_s.clear()
            self._stopped.clear()
        for pool in self._pools:
            self._look_for_missing(pool, now_s)
            self._look_for_stopped(pool)

    def _look_for_missing(self, pool: Pool, now_s: float) -> None:
        missing = _missing(pool)
        if not missing:
            self._unmanned_since_s.pop(pool.name, None)
            pool.symptoms.heal(Event.POOL_UNMANNED)
            return
        since_s = self._unmanned_since_s.setdefault(pool.name, now_s)
        if now_s - since_s >= UNMANNED_S:
            pool.symptoms.notice(Event.POOL_UNMANNED, f"no message can be run just now: {missing}", degrades=True)

    def _look_for_stopped(self, pool: Pool) -> None:
        stopped = [child for child in _unlimited(pool) if posix.is_stopped(child.pid)]
        lasting = [child for child in stopped if child.pid in self._stopped]
        self._stopped -= {spec.child.pid for spec in pool.workers if spec.child is not None}
        self._stopped |= {child.pid for child in stopped}
        if not lasting:
            pool.symptoms.heal(Event.WORKER_STOPPED)
            return
        names = ", ".join(f"{child.name} (pid {child.pid})" for child in lasting)
        text = (
            f"stopped during a message, without a time limit that would end the run: {names}; send SIGCONT, or SIGKILL"
        )
        pool.symptoms.notice(Event.WORKER_STOPPED, text, degrades=True)


def _missing(pool: Pool) -> str:
    """Which process is missing, in a pool whose state does not say it; "" for none."""
    if not pool.was_ready or pool.leaving or pool.plan.on_trial or pool_state(pool, stopping=False) == "held":
        return ""
    if not any(spec.ready for spec in pool.workers):
        whys = [spec.why for spec in (pool.forkserver, *pool.workers) if spec.why]
        return f"no worker is ready ({whys[0] if whys else 'they are booting'})"
    if not pool.consumer.ready and not cut_off(pool):
        return f"the consumer is not ready ({pool.consumer.why or 'it is booting'})"
    return ""


def _unlimited(pool: Pool) -> Iterator[Child]:
    """The workers whose run has no time limit."""
    for spec in pool.workers:
        if spec.child is not None and spec.slot is not None:
            running = pool.slots[spec.slot].running()
            if running is not None and not running.deadline_s:
                yield spec.child
