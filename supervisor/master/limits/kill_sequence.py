"""Ends one worker in the middle of its message: dump its stacks, stop it, look again, kill. Master only.

Between the master's look and its SIGKILL a worker may finish its message and begin another. So the worker is stopped
first, its marks are read again while they cannot change, and it is killed only if it still runs the same message. Else
it is continued. Nothing here blocks: each step says when the next one is due.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from supervisor.master.host.signalling import send
from supervisor.master.pool.children import Child
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import Intent, Running
from supervisor.system import posix

_POLL_S = 0.01
_DUMP_S = 0.5
"""How long the stack dump may take: faulthandler writes it within the signal handler, milliseconds usually."""

_STOP_S = 0.5
"""How long SIGSTOP may take; a process that does not stop is inside the kernel and cannot change its marks either."""

Step = Callable[[float], float | None]


class KillSequence:
    """Kill sequence for one worker whose run exceeded a limit."""

    def __init__(
        self,
        child: Child,
        slot: Slot,
        intent: Intent,
        still_over_limit: Callable[[Running, float], bool],
        stacks: Path | None,
    ) -> None:
        """`still_over_limit(running, now_s)`: whether the run must end; `stacks`: the dump's file, None for no dump."""
        self.child = child
        self._slot = slot
        self._intent = intent
        self._still_over_limit = still_over_limit
        self._stacks = stacks
        self._asked_by = _ASKED_BY.get(intent, "")
        self._until_s = 0.0
        self._dumped_bytes = -1
        self._next: Step = self._begin
        running = slot.running()
        self._number = running.number if running else -1

    def step(self, now_s: float) -> float | None:
        """Do what is due at `now_s` (CLOCK_MONOTONIC). Returns when to call it again; None at the end."""
        return self._next(now_s)

    def _begin(self, now_s: float) -> float | None:
        # fail-point: master.timeout-begun: a worker is to be killed, no mark says so
        self._slot.write_intent(self._intent, self.child.generation)
        # fail-point: master.timeout-intended: the intent is in the slot, no signal is sent
        if self._stacks is None or not self._signal(signal.SIGQUIT, now_s):
            return self._stop(now_s)
        return self._then(self._await_dump, now_s, _DUMP_S)

    def _await_dump(self, now_s: float) -> float | None:
        dumped = _size(self._stacks)
        done = dumped > 0 and dumped == self._dumped_bytes
        self._dumped_bytes = dumped
        return self._stop(now_s) if done or now_s >= self._until_s else now_s + _POLL_S

    def _stop(self, now_s: float) -> float | None:
        if not self._signal(signal.SIGSTOP, now_s):
            self._let_be()
            return None
        # fail-point: master.timeout-stopped: the worker is stopped, not judged
        return self._then(self._judge, now_s, _STOP_S)

    def _judge(self, now_s: float) -> float | None:
        if now_s < self._until_s and posix.executes(self.child.pid):
            return now_s + _POLL_S
        if self._is_over_limit(now_s):
            self.child.mark(self._intent, self._asked_by)
            self._signal(signal.SIGKILL, now_s)
            # fail-point: master.timeout-killed: the worker is killed, not waited for
            return None
        self._signal(signal.SIGCONT, now_s)
        self._let_be()
        return None

    def _is_over_limit(self, now_s: float) -> bool:
        running = self._slot.running()
        return running is not None and running.number == self._number and self._still_over_limit(running, now_s)

    def _let_be(self) -> None:
        """It is not killed, or cannot be: restore the former intent in its slot."""
        self._slot.write_intent(self.child.intent, self.child.generation)

    def _then(self, step: Step, now_s: float, within_s: float) -> float:
        self._next, self._until_s = step, now_s + within_s
        return now_s + _POLL_S

    def _signal(self, signum: int, now_s: float) -> bool:
        return send(self.child, signum, now_s)


class StalledExecution(KillSequence):
    """Kill sequence for a worker that has messages and begins none: killed unless it has begun a message meanwhile."""

    def __init__(self, child: Child, slot: Slot, stacks: Path, waited_s: float) -> None:
        super().__init__(child, slot, Intent.TIMEOUT_KILL, lambda running, now_s: False, stacks)
        self._asked_by = f"no progress for {waited_s:.0f} s"
        self._handled = slot.handled

    def _is_over_limit(self, now_s: float) -> bool:
        return self._slot.running() is None and self._slot.handled == self._handled


_ASKED_BY = {Intent.TIMEOUT_KILL: "time limit", Intent.MEMORY_KILL: "kill_memory"}


def _size(path: Path | None) -> int:
    if path is not None:
        with suppress(OSError):
            return path.stat().st_size
    return 0
