"""Ends workers in mid-message: overdue ones, and those that grew past `kill_memory`. Master only.

A look reads the marks of all slots, so it is taken only when a run can be over its limit: at the earliest deadline that
is known or could have begun, and once a second for memory while a pool is busy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from supervisor.config.schema import PoolConfig
from supervisor.master.limits.deadlines import Deadlines
from supervisor.master.limits.kill_sequence import KillSequence, StalledExecution
from supervisor.master.pool.children import Child
from supervisor.master.pool.pool import Pool
from supervisor.scoreboard.words import Intent, Running
from supervisor.system import memory

MEMORY_LOOK_S = 1.0
"""How often busy workers' memory is looked at."""


@dataclass
class Limits:
    """The limits of all pools. `due_s` says when `turn` is needed next (CLOCK_MONOTONIC)."""

    does = "enforce the limits"

    pools: Collection[Pool]
    deadlines: Deadlines
    memory_looked_s: float = 0.0
    executions: dict[int, tuple[float, KillSequence]] = field(default_factory=dict)

    @property
    def due_s(self) -> float:
        """The earliest moment at which there is something to do."""
        steps = min((due_s for due_s, _execution in self.executions.values()), default=float("inf"))
        return min(steps, self.deadlines.due_s, self._memory_due_s())

    def turn(self, now_s: float) -> None:
        """Begin the kill sequence of workers over a limit, and take the next step of those under way."""
        self._forget_dead()
        if now_s >= self.deadlines.due_s:
            self._look_at_time(now_s)
        if now_s >= self._memory_due_s():
            self._look_at_memory(now_s)
        for pool in self.pools:
            self._end_stalled(pool)
        for pid, (due_s, execution) in list(self.executions.items()):
            if now_s >= due_s:
                self._step(pid, execution, now_s)

    def _forget_dead(self) -> None:
        living = {spec.child.pid: spec.child for pool in self.pools for spec in pool.workers if spec.child is not None}
        for pid, (_due_s, execution) in list(self.executions.items()):
            if living.get(pid) is not execution.child:
                del self.executions[pid]

    def _look_at_time(self, now_s: float) -> None:
        self.deadlines.arrive(now_s, (pool.config for pool in self.pools))
        for pool, child, running in _busy(self.pools):
            if self.deadlines.overdue(running, pool.config, now_s):
                self._begin_kill(pool, child, Intent.TIMEOUT_KILL, self._still_overdue(pool.config))

    def _look_at_memory(self, now_s: float) -> None:
        self.memory_looked_s = now_s
        for pool, child, _running in _busy(self._with_memory_limit()):
            if memory.exceeds(child.pid, pool.config.kill_memory_bytes):
                self._begin_kill(pool, child, Intent.MEMORY_KILL, _same_run)

    def _begin_kill(
        self, pool: Pool, child: Child, intent: Intent, still_over_limit: Callable[[Running, float], bool]
    ) -> None:
        if child.pid in self.executions or child.slot is None:
            return
        stacks = pool.dumps.path(child.slot) if intent is Intent.TIMEOUT_KILL else None
        self.executions[child.pid] = (
            0.0,
            KillSequence(child, pool.slots[child.slot], intent, still_over_limit, stacks),
        )

    def _end_stalled(self, pool: Pool) -> None:
        """Begin the kill sequence of workers that the consumer has named as stalled and that still begin no message."""
        for stalled in pool.consumer_channel.take_stalled():
            slot, generation = stalled.worker.slot, stalled.worker.generation
            child = pool.workers[slot].child if slot < len(pool.workers) else None
            if child is None or child.generation != generation or child.intent is not Intent.NONE:
                continue
            if child.pid not in self.executions and pool.slots[slot].leaving(generation) is None:
                execution = StalledExecution(child, pool.slots[slot], pool.dumps.path(slot), stalled.waited_s)
                self.executions[child.pid] = (0.0, execution)

    def _step(self, pid: int, execution: KillSequence, now_s: float) -> None:
        due_s = execution.step(now_s)
        if due_s is None:
            del self.executions[pid]
        else:
            self.executions[pid] = (due_s, execution)

    def _still_overdue(self, config: PoolConfig) -> Callable[[Running, float], bool]:
        return lambda running, now_s: self.deadlines.overdue(running, config, now_s)

    def _with_memory_limit(self) -> list[Pool]:
        return [pool for pool in self.pools if pool.config.kill_memory_bytes and _may_run(pool)]

    def _memory_due_s(self) -> float:
        return self.memory_looked_s + MEMORY_LOOK_S if self._with_memory_limit() else float("inf")


def _may_run(pool: Pool) -> bool:
    """Whether a worker may be running a message; not when the consumer has just reported that none does."""
    snapshot = pool.consumer_channel.snapshot
    return snapshot is None or snapshot.in_flight > 0 or not pool.consumer.ready


def _same_run(running: Running, now_s: float) -> bool:
    return True


def _busy(pools: Collection[Pool]) -> Iterator[tuple[Pool, Child, Running]]:
    for pool in pools:
        for spec in pool.workers:
            if spec.child is None or spec.slot is None:
                continue
            running = pool.slots[spec.slot].running()
            if running is not None:
                yield pool, spec.child, running
