"""Ends workers in mid-message: overdue ones, and those that grew past `kill_memory`. Master only.

A look reads the marks of all slots, so it is taken only when a run can be over its limit: at the earliest deadline that
is known or could have begun, and once a second for memory while a pool is busy.

Between the master's look and its SIGKILL a worker may finish its message and begin another. So the worker is stopped
first, its marks are read again while they cannot change, and it is killed only if they are the same. Else it is
continued. Nothing here blocks: each step says when the next one is due.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from supervisor.config.schema import PoolConfig
from supervisor.link.frames import Stalled
from supervisor.master.limits.deadlines import Deadlines
from supervisor.master.pool.children import Child
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.signalling import send
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import Intent, Running
from supervisor.system import posix
from supervisor.system.processes import exceeds_memory

MEMORY_LOOK_S = 1.0
"""How often busy workers' memory is looked at."""

_POLL_S = 0.01
_DUMP_S = 0.5
"""How long the stack dump may take: faulthandler writes it within the signal handler, milliseconds usually."""

_STOP_S = 0.5
"""How long SIGSTOP may take; a process that does not stop is inside the kernel and cannot change its marks either."""

StillOverLimit = Callable[[Running | None, float], bool]
"""Whether a worker must be killed: with the run that it has now, at this time (CLOCK_MONOTONIC)."""


class RunLimits:
    """The limits of the runs of all pools. `sequences`: the kill sequences under way, by pid."""

    does = "enforce the limits"

    def __init__(self, pools: Collection[Pool], now_s: float) -> None:
        self.sequences: dict[int, KillSequence] = {}
        self._pools = pools
        self._deadlines = Deadlines(now_s)
        self._memory_looked_s = 0.0

    @property
    def due_s(self) -> float:
        """The earliest moment at which there is something to do (CLOCK_MONOTONIC)."""
        steps = min((sequence.due_s for sequence in self.sequences.values()), default=float("inf"))
        return min(steps, self._deadlines.due_s, self._memory_due_s())

    def turn(self, now_s: float) -> None:
        """Begin the kill sequence of workers over a limit, and take the next step of those under way."""
        living = {spec.child.pid: spec.child for pool in self._pools for spec in pool.workers if spec.child is not None}
        self.sequences = {pid: each for pid, each in self.sequences.items() if living.get(pid) is each.child}
        if now_s >= self._deadlines.due_s:
            self._look_at_time(now_s)
        if now_s >= self._memory_due_s():
            self._look_at_memory(now_s)
        for pool in self._pools:
            self._end_stalled(pool)
        for pid, sequence in list(self.sequences.items()):
            if now_s >= sequence.due_s and sequence.step(now_s):
                del self.sequences[pid]

    def _look_at_time(self, now_s: float) -> None:
        self._deadlines.arrive(now_s, (pool.config for pool in self._pools))
        for pool, child, running in _busy(self._pools):
            if self._deadlines.overdue(running, pool.config, now_s):
                self._begin_kill(pool, child, Intent.TIMEOUT_KILL, "time limit", self._still_overdue(pool.config))

    def _look_at_memory(self, now_s: float) -> None:
        self._memory_looked_s = now_s
        for pool, child, _running in _busy(self._with_memory_limit()):
            if exceeds_memory(child.pid, pool.config.kill_memory_bytes):
                self._begin_kill(pool, child, Intent.MEMORY_KILL, "kill_memory", _still_runs)

    def _end_stalled(self, pool: Pool) -> None:
        """Begin the kill sequence of workers that the consumer has named as stalled and that still begin no message."""
        for stalled in pool.consumer_channel.take(Stalled):
            slot, generation = stalled.worker.slot, stalled.worker.generation
            child = pool.workers[slot].child if slot < len(pool.workers) else None
            if child is None or child.generation != generation or child.intent is not Intent.NONE:
                continue
            if pool.slots[slot].leaving(generation) is None:
                waited = f"no progress for {stalled.waited_s:.0f} s"
                self._begin_kill(pool, child, Intent.TIMEOUT_KILL, waited, lambda running, now_s: running is None)

    def _begin_kill(self, pool: Pool, child: Child, intent: Intent, why: str, still_over_limit: StillOverLimit) -> None:
        if child.pid not in self.sequences and child.slot is not None:
            stacks = child.dump if intent is Intent.TIMEOUT_KILL else None
            slot = pool.slots[child.slot]
            self.sequences[child.pid] = KillSequence(child, slot, intent, why, still_over_limit, stacks)

    def _still_overdue(self, config: PoolConfig) -> StillOverLimit:
        return lambda running, now_s: running is not None and self._deadlines.overdue(running, config, now_s)

    def _with_memory_limit(self) -> list[Pool]:
        return [pool for pool in self._pools if pool.config.kill_memory_bytes and _may_run(pool)]

    def _memory_due_s(self) -> float:
        return self._memory_looked_s + MEMORY_LOOK_S if self._with_memory_limit() else float("inf")


class KillSequence:
    """Ends one worker in the middle of its message: dump its stacks, stop it, look again, kill.

    `due_s`: when `step` is needed next (CLOCK_MONOTONIC).
    """

    def __init__(
        self,
        child: Child,
        slot: Slot,
        intent: Intent,
        requested_by: str,
        still_over_limit: StillOverLimit,
        stacks: Path | None,
    ) -> None:
        """`requested_by`: for the exit record; `stacks`: the dump's file, None for no dump."""
        self.child = child
        self.due_s = 0.0
        self._slot = slot
        self._intent = intent
        self._requested_by = requested_by
        self._still_over_limit = still_over_limit
        self._stacks = stacks
        self._until_s = 0.0
        self._dumped_bytes = -1
        self._next = self._begin
        self._marks = self._read_marks()

    def step(self, now_s: float) -> bool:
        """Do what is due at `now_s` (CLOCK_MONOTONIC). True at the end."""
        self.due_s = now_s + _POLL_S
        return self._next(now_s)

    def _begin(self, now_s: float) -> bool:
        # fail-point: master.timeout-begun: a worker is to be killed, no mark says so
        self._slot.write_intent(self._intent, self.child.generation)
        # fail-point: master.timeout-intended: the intent is in the slot, no signal is sent
        if self._stacks is None or not send(self.child, signal.SIGQUIT, now_s):
            return self._stop(now_s)
        self._next, self._until_s = self._await_dump, now_s + _DUMP_S
        return False

    def _await_dump(self, now_s: float) -> bool:
        former, self._dumped_bytes = self._dumped_bytes, _size(self._stacks)
        complete = self._dumped_bytes > 0 and self._dumped_bytes == former
        return (complete or now_s >= self._until_s) and self._stop(now_s)

    def _stop(self, now_s: float) -> bool:
        if not send(self.child, signal.SIGSTOP, now_s):
            self._let_be()
            return True
        # fail-point: master.timeout-stopped: the worker is stopped, not judged
        self._next, self._until_s = self._judge, now_s + _STOP_S
        return False

    def _judge(self, now_s: float) -> bool:
        if now_s < self._until_s and posix.executes(self.child.pid):
            return False
        if self._read_marks() == self._marks and self._still_over_limit(self._slot.running(), now_s):
            self.child.mark(self._intent, self._requested_by)
            send(self.child, signal.SIGKILL, now_s)
            # fail-point: master.timeout-killed: the worker is killed, not waited for
        else:
            send(self.child, signal.SIGCONT, now_s)
            self._let_be()
        return True

    def _read_marks(self) -> tuple[int, int]:
        """The number of the worker's run, -1 for none, and how many it has ended."""
        running = self._slot.running()
        return running.number if running else -1, self._slot.handled

    def _let_be(self) -> None:
        """It is not killed, or cannot be: restore the former intent in its slot."""
        self._slot.write_intent(self.child.intent, self.child.generation)


def _size(path: Path | None) -> int:
    if path is not None:
        with suppress(OSError):
            return path.stat().st_size
    return 0


def _may_run(pool: Pool) -> bool:
    """Whether a worker may be running a message; not when the consumer has just reported that none does."""
    snapshot = pool.consumer_channel.snapshot
    return snapshot is None or snapshot.in_flight > 0 or not pool.consumer.ready


def _still_runs(running: Running | None, now_s: float) -> bool:
    return running is not None


def _busy(pools: Collection[Pool]) -> Iterator[tuple[Pool, Child, Running]]:
    for pool in pools:
        for spec in pool.workers:
            if spec.child is None or spec.slot is None:
                continue
            running = pool.slots[spec.slot].running()
            if running is not None:
                yield pool, spec.child, running
