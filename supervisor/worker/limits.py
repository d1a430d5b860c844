"""The time limit of a run: its source, its length, the worker's only alarm, and the end that the kernel holds; the
limits of the worker's own life.

Runs in workers. The soft limit raises SoftTimeout, only inside the handler's own frames: an exception between two runs,
or in the worker's own code, could lose an outcome. The hard limit ends the process from the signal handler, so the
interpreter must run; a worker that hangs in C code is left to the master, and to the kernel where the master is late.
No library of greenlets is imported here: one that user code has not loaded is unused.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as in requests.py
import logging
import math
import signal
import sys
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any, NoReturn

import msgspec

from supervisor.api import SoftTimeout
from supervisor.config.schema import PoolConfig
from supervisor.quantities import read_seconds
from supervisor.scoreboard.words import LeavingReason, LimitSource
from supervisor.system.clock import monotonic_s
from supervisor.system.kill_timer import KillTimer

_log = logging.getLogger("preforkd.worker")

_SIGALRM = int(signal.SIGALRM)
_AGAIN_S = 0.005
_LEAST_S = 0.000_1  # a timer set to 0 would be switched off
_BLUR = 0.1
_MEMORY_CHECK_S = 0.1
_SLACK_S = 0.5


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
    """The limit of one run, moved by `message.extend`; `moved(self)` is called then. Times are CLOCK_MONOTONIC, except
    `began_s`: a time before the run was marked, by CLOCK_BOOTTIME."""

    def __init__(
        self, limit: Limit, started_s: float, most_s: float, moved: Callable[[RunTimer], None], began_s: float = 0.0
    ) -> None:
        self._started_s = started_s
        self._began_s = began_s
        self._most_s = most_s
        self._hard_s = limit.hard_s
        self._soft_s = limit.soft_s
        self._soft_spent = not limit.soft_s
        self._moved = moved
        self.is_over = False

    @property
    def deadline_s(self) -> float:
        """When the hard limit ends the run."""
        return self._started_s + self._hard_s

    @property
    def boottime_deadline_s(self) -> float:
        """The same by CLOCK_BOOTTIME, counted from `began_s`."""
        return self._began_s + self._hard_s

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

    def remaining_s(self) -> float:
        """Seconds until the hard limit ends the run."""
        return self.deadline_s - monotonic_s()

    def extend(self, seconds: float) -> None:
        """Move both limits by `seconds`. Raises ValueError if the run may not last that long, or has ended."""
        if self.is_over:
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
        self.is_over = True


class KernelEnd:
    """The end of a run that the kernel holds: it kills this process `grace_s` after the hard limit, also one that is
    stopped. By then worker and master have ended the run, unless they do not run themselves.

    The timer of the last run serves the next one, too, if it is at most `_SLACK_S` early and not late: in a burst of
    short runs it is set twice a second.
    `mark(at_s)`: notes in the slot when the kernel kills (CLOCK_BOOTTIME, 0: never). By it the master finds the cause.
    """

    def __init__(self, grace_s: float, timer: KillTimer, mark: Callable[[float], None]) -> None:
        self._grace_s = grace_s
        self._timer = timer
        self._mark = mark
        self._at_s = 0.0

    def hold(self, limit_s: float) -> None:
        """Set it for a run with this hard limit (CLOCK_BOOTTIME); 0: for none.

        The mark is never later than the timer: when the timer kills, the mark is due.
        """
        former_s, at_s = self._at_s, limit_s + self._grace_s if limit_s else 0.0
        if at_s - _SLACK_S <= former_s <= at_s or not self._timer.is_open:
            return
        self._at_s = at_s
        if not former_s or 0.0 < at_s < former_s:
            self._mark(at_s)
            self._timer.set(at_s)
        else:
            self._timer.set(at_s)
            self._mark(at_s)


class Alarm:
    """The worker's timer (setitimer(2) ITIMER_REAL) and its signal, SIGALRM: for one run at a time, or none.

    The timer of the last run serves the next one, too, if it is early, but not by much: setting it costs four times as
    much as reading it. After an early alarm the timer is set for the remaining time.
    `kernel_end`: set for each run, switched off before a rest.
    `handler_call`: the code whose callees are the handler's frames. `overdue()` ends the process.
    `extended(deadline_s)` is called with a new deadline (CLOCK_MONOTONIC).
    """

    def __init__(
        self,
        handler_call: CodeType,
        max_timeout_s: float,
        overdue: Callable[[], NoReturn],
        extended: Callable[[float], None],
        kernel_end: KernelEnd,
    ) -> None:
        self._handler_call = handler_call
        self._most_s = max_timeout_s
        self._overdue = overdue
        self._extended = extended
        self._kernel_end = kernel_end
        self._held: RunTimer | None = None  # whose end the kernel holds: the last run's, until the next begins
        self._run: RunTimer | None = None
        self._on_ring = self._ring  # one object, to compare with the installed handler

    def begin(self, limit: Limit, started_s: float, began_s: float) -> RunTimer:
        """Begin a run, which `end` must follow.

        `began_s`: read before the run was marked (CLOCK_BOOTTIME). A worker that is stopped after that reading, for
        longer than the run may last, dies here: no late run begins.
        """
        self._listen()
        self._held = self._run = run = RunTimer(limit, started_s, self._most_s, self._move, began_s)
        self._hold()
        due_in_s = run.next_due_s - started_s
        left_s, interval_s = signal.getitimer(signal.ITIMER_REAL)
        if interval_s or not due_in_s / 2 <= left_s <= due_in_s:
            self._arm(run, started_s)
        return run

    def end(self) -> None:
        """End the run. The timers stay set for the next run; until then an alarm has no effect."""
        if self._run is not None:
            self._run.end()
        self._run = None
        self._listen()  # an alarm handler of user code must not run in the worker's frames

    def rest(self) -> None:
        """Stop the timers while no run begins."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._held is not None:
            self._held = None
            self._hold()

    def _hold(self) -> None:
        """Let the kernel hold the end of the present run, also if a thread extends it or the main thread ends it
        meanwhile: then again."""
        held_s = -1.0
        while held_s != (limit_s := _boottime_deadline_s(self._held)):
            held_s = limit_s
            self._kernel_end.hold(limit_s)

    def _listen(self) -> None:
        if _signal.getsignal(_SIGALRM) is not self._on_ring:  # the first run, or user code has replaced it
            _signal.signal(_SIGALRM, self._on_ring)

    def _arm(self, run: RunTimer, now_s: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, max(_LEAST_S, run.next_due_s - now_s))

    def _move(self, run: RunTimer) -> None:
        self._hold()
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


def _boottime_deadline_s(run: RunTimer | None) -> float:
    return 0.0 if run is None else run.boottime_deadline_s


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


# ---- libraries of greenlets ------------------------------------------------------------------------------------------


def waiting_main() -> Any:
    """The worker's own greenlet while another one runs; None while it runs itself, or without greenlets.

    Under gevent a handler waits by switching to the greenlet of the loop. A signal handler then runs on that greenlet's
    stack, where an exception would end the loop and not the handler.
    """
    greenlet = sys.modules.get("greenlet")
    if greenlet is None:
        return None
    main = current = greenlet.getcurrent()
    while main.parent is not None:
        main = main.parent
    return main if main is not current else None


def call_in_loop(call: Callable[..., object], *arguments: object) -> None:
    """Let gevent's loop call `call(*arguments)` in its next pass; nothing without a known version of gevent."""
    gevent = sys.modules.get("gevent")
    try:
        gevent.get_hub().loop.run_callback_threadsafe(call, *arguments)  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001  (a library of the user's: without it there is no soft limit)
        return


def keeps_soft_limit_out() -> str:
    """The loaded library in whose waits the soft limit has no effect; "" for none."""
    patcher = sys.modules.get("eventlet.patcher")
    try:
        return "eventlet" if patcher is not None and patcher.is_monkey_patched("time") else ""
    except Exception:  # noqa: BLE001  (as above)
        return "eventlet"


# ---- the worker's life -----------------------------------------------------------------------------------------------


class Recycling:
    """The recycling limits of a worker: handled messages, age, private memory. Checked between two messages only.

    `exceeds(limit_bytes)`: whether this process has more private memory; `dice()`: a random number in [0, 1), for a
    jitter of ten per cent, so that workers started together do not exit together.
    """

    def __init__(
        self, pool: PoolConfig, born_s: float, exceeds: Callable[[int], bool], dice: Callable[[], float]
    ) -> None:
        self._messages = max(1, round(_blurred(pool.max_messages, dice))) if pool.max_messages else math.inf
        self._leave_at_s = born_s + _blurred(pool.max_age_s, dice)
        self._memory = pool.max_memory_bytes
        self._exceeds = exceeds
        self._memory_due_s = born_s
        self.handled = 0

    def due(self, now_s: float) -> LeavingReason | None:
        """The first limit reached, or None."""
        if self.handled >= self._messages:
            return LeavingReason.MESSAGES
        if now_s >= self._leave_at_s:
            return LeavingReason.AGE
        return LeavingReason.MEMORY if self._too_big(now_s) else None

    def age_left_s(self, now_s: float) -> float:
        """Seconds until the worker is too old; infinite without a limit."""
        return self._leave_at_s - now_s

    def _too_big(self, now_s: float) -> bool:
        if not self._memory or not self.handled or now_s < self._memory_due_s:
            return False
        self._memory_due_s = now_s + _MEMORY_CHECK_S
        return self._exceeds(self._memory)


def _blurred(limit: float, dice: Callable[[], float]) -> float:
    return limit * (1 + _BLUR * (2 * dice() - 1)) if limit else math.inf
