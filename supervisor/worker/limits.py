"""The time limit of a run: its source, its length, and the worker's only alarm.

Runs in workers. The soft limit raises SoftTimeout, only inside the handler's own frames: an exception between two runs,
or in the worker's own code, could lose an outcome. The hard limit ends the process from the signal handler, so the
interpreter must run; a worker that hangs in C code is left to the master.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as in requests.py
import logging
import signal
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any, NoReturn

import msgspec

from supervisor.api import SoftTimeout
from supervisor.config.schema import PoolConfig
from supervisor.quantities import read_seconds
from supervisor.scoreboard.words import LimitSource
from supervisor.system.clock import monotonic_s
from supervisor.worker.greenlets import call_in_loop, waiting_main

_log = logging.getLogger("preforkd.worker")

_SIGALRM = int(signal.SIGALRM)
_AGAIN_S = 0.005
_LEAST_S = 0.000_1  # a timer set to 0 would be switched off


class Limit(msgspec.Struct, frozen=True):
    """The limits of a run, in seconds from its start; `soft_s` 0 means no soft limit."""

    hard_s: float
    soft_s: float
    source: LimitSource


class LimitPolicy:
    """The limits of a pool, and of messages with a `timeout_header`."""

    def __init__(self, pool: PoolConfig) -> None:
        self._header = pool.timeout_header
        self._most_s = pool.max_timeout_s
        self._soft_share = pool.soft_timeout_s / pool.timeout_s
        self._usual = Limit(pool.timeout_s, pool.soft_timeout_s, LimitSource.POOL)

    def limit_for(self, headers: Mapping[str, Any]) -> Limit:
        """The limit of a message with these headers; the pool's, with a warning, if its own is invalid.

        The soft limit of a message keeps the pool's proportion to the hard one.
        """
        asked = headers.get(self._header) if self._header else None
        if asked is None:
            return self._usual
        try:
            hard_s = min(_read_limit_s(asked), self._most_s)
        except ValueError as error:
            _log.warning("header %s = %r is ignored: %s", self._header, asked, error)
            return self._usual
        return Limit(hard_s, hard_s * self._soft_share, LimitSource.MESSAGE)


def _read_limit_s(value: object) -> float:
    bare = isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal()
    seconds = read_seconds(float(str(value)) if bare else value)
    if seconds <= 0:
        raise ValueError("a time limit must be more than 0 seconds")
    return seconds


class RunTimer:
    """The limit of one run, moved by `message.extend`; `moved(self)` is called then. Times are CLOCK_MONOTONIC."""

    def __init__(self, limit: Limit, started_s: float, most_s: float, moved: Callable[[RunTimer], None]) -> None:
        self._started_s = started_s
        self._most_s = most_s
        self._hard_s = limit.hard_s
        self._soft_s = limit.soft_s
        self._soft_spent = not limit.soft_s
        self._moved = moved
        self._over = False

    @property
    def deadline_s(self) -> float:
        """When the hard limit ends the run."""
        return self._started_s + self._hard_s

    @property
    def next_due_s(self) -> float:
        """When the next of the two limits is reached."""
        return self._started_s + (self._hard_s if self._soft_spent else min(self._soft_s, self._hard_s))

    def soft_is_due(self, now_s: float) -> bool:
        """Whether SoftTimeout is due, which is raised once, and once more after each extension."""
        return not self._soft_spent and now_s >= self._started_s + self._soft_s

    def spend_soft(self) -> SoftTimeout:
        """The exception to raise; afterwards it is not due again."""
        self._soft_spent = True
        return SoftTimeout(f"the soft limit of {self._soft_s:g} s is over")

    @property
    def is_over(self) -> bool:
        """Whether the handler has ended."""
        return self._over

    def remaining_s(self) -> float:
        """Seconds until the hard limit ends the run."""
        return self.deadline_s - monotonic_s()

    def extend(self, seconds: float) -> None:
        """Move both limits by `seconds`. Raises ValueError if the run may not last that long, or has ended."""
        if self._over:
            raise ValueError("extend: the run of this message is over")
        if self._hard_s + seconds > self._most_s:
            left_s = max(0.0, self._most_s - self._hard_s)
            raise ValueError(
                f"extend({seconds:g}): a run may last {self._most_s:g} s at most (max_timeout), "
                f"so this one may ask for {left_s:g} s more"
            )
        self._hard_s += seconds
        if self._soft_s:
            self._soft_s += seconds
            self._soft_spent = monotonic_s() >= self._started_s + self._soft_s
        self._moved(self)

    def end(self) -> None:
        """End the run: it cannot be extended any more."""
        self._over = True


class Alarm:
    """The worker's timer (setitimer(2) ITIMER_REAL) and its signal, SIGALRM: for one run at a time, or none.

    The timer of the last run serves the next one, too, if it is early, but not by much: setting it costs four times as
    much as reading it. After an early alarm the timer is set for the remaining time.
    `handler_call`: the code whose callees are the handler's frames. `overdue()` ends the process.
    `extended(deadline_s)` is called with a new deadline (CLOCK_MONOTONIC).
    """

    def __init__(
        self,
        handler_call: CodeType,
        max_timeout_s: float,
        overdue: Callable[[], NoReturn],
        extended: Callable[[float], None],
    ) -> None:
        self._handler_call = handler_call
        self._most_s = max_timeout_s
        self._overdue = overdue
        self._extended = extended
        self._run: RunTimer | None = None
        self._on_ring = self._ring  # one object, to compare with the installed handler

    def begin(self, limit: Limit, started_s: float) -> RunTimer:
        """Begin a run, which `end` must follow."""
        self._listen()
        self._run = run = RunTimer(limit, started_s, self._most_s, self._move)
        due_in_s = run.next_due_s - started_s
        left_s, interval_s = signal.getitimer(signal.ITIMER_REAL)
        if interval_s or not due_in_s / 2 <= left_s <= due_in_s:
            self._arm(run, started_s)
        return run

    def end(self) -> None:
        """End the run. The timer stays set for the next run; until then an alarm has no effect."""
        if self._run is not None:
            self._run.end()
        self._run = None
        self._listen()  # an alarm handler of user code must not run in the worker's frames

    def rest(self) -> None:
        """Stop the timer while no run begins."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _listen(self) -> None:
        if _signal.getsignal(_SIGALRM) is not self._on_ring:  # the first run, or user code has replaced it
            _signal.signal(_SIGALRM, self._on_ring)

    def _arm(self, run: RunTimer, now_s: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, max(_LEAST_S, run.next_due_s - now_s))

    def _move(self, run: RunTimer) -> None:
        self._extended(run.deadline_s)
        self._arm(run, monotonic_s())

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        run, now_s = self._run, monotonic_s()
        if run is None:
            return
        if now_s >= run.deadline_s:
            self._overdue()
        if not run.soft_is_due(now_s):
            self._arm(run, now_s)
        elif interruptible(frame, self._handler_call):
            timeout = run.spend_soft()
            self._arm(run, now_s)
            raise timeout
        else:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
            if (main := waiting_main()) is not None:
                call_in_loop(self._strike, run, main)

    def _strike(self, run: RunTimer, main: Any) -> None:
        """Raise SoftTimeout in the waiting greenlet of the handler. Called by gevent's loop."""
        now_s = monotonic_s()
        if self._run is run and run.soft_is_due(now_s) and interruptible(main.gr_frame, self._handler_call):
            timeout = run.spend_soft()
            self._arm(run, now_s)
            main.throw(timeout)


def interruptible(frame: FrameType | None, handler_call: CodeType) -> bool:
    """Whether an exception may be raised in `frame`: in the handler, which `handler_call` (a code object) calls.

    Not in the worker's own code, the API included, that a handler has called; not in a finalizer, where it would be
    swallowed; not before the handler was entered, or after it has returned.
    """
    interrupted = frame
    while frame is not None:
        if frame.f_code is handler_call:
            return frame is not interrupted
        module = frame.f_globals.get("__name__")  # in user code it may have any type
        if frame.f_code.co_name == "__del__" or (isinstance(module, str) and module.startswith("supervisor.")):
            return False
        frame = frame.f_back
    return False
