"""The duties of the master's turn: what a duty is, and what happens when one fails. Master only.

Each duty deals with the failures that it knows. `Failures` is for unforeseen ones: a system call that a broken disk or
a sandbox refuses, a bug. A failed duty is named and tried again, all others go on: a master that ends takes all pools
with it, so only a stop ends it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool.pool import Pool
from supervisor.master.stop.stopping import DaemonStop
from supervisor.system.clock import monotonic_s

PAUSE_S = 0.05
"""How long a turn in which a duty has failed lasts at least: a failure that repeats must not occupy a processor."""

TOLD_AGAIN_S = 60.0
"""How often the same failure is logged."""


class Duty(Protocol):
    """A task of the master. `does`: what it does, in words that follow "the master could not"."""

    does: str

    @property
    def due_s(self) -> float:
        """When `turn` is needed next if nothing happens (CLOCK_MONOTONIC, in seconds); inf for never."""

    def turn(self, now_s: float) -> None:
        """Do what is to be done at `now_s` (CLOCK_MONOTONIC). Called in each turn of the master, due or not."""


class UntilStop:
    """A duty that ends when the stop of the daemon begins."""

    def __init__(self, duty: Duty, stop: DaemonStop) -> None:
        self.does = duty.does
        self._duty = duty
        self._stop = stop

    @property
    def due_s(self) -> float:
        """As the duty has it; inf during a stop."""
        return float("inf") if self._stop.under_way else self._duty.due_s

    def turn(self, now_s: float) -> None:
        """As the duty has it; nothing during a stop."""
        if not self._stop.under_way:
            self._duty.turn(now_s)


class Failures:
    """Runs parts of a turn, each for itself. Remembers the recent failures by text, and those of each pool."""

    def __init__(self) -> None:
        self._told_s: dict[str, float] = {}
        self._failed = False
        self._of_pools: WeakKeyDictionary[Pool, dict[str, str]] = WeakKeyDictionary()

    def attempt(self, does: str, deed: Callable[[], object], whose: str = "") -> str:
        """Do this. A failure is logged, it is not raised. Returns what has failed, "" for nothing.

        `does`: the `deed` in words, as in `Duty`; `whose`: the pool that it is for.
        """
        try:
            deed()
        except Exception as error:  # noqa: BLE001  (of any kind: other duties and other pools must not suffer)
            self._failed = True
            text = f"{whose and f'pool {whose}: '}the master could not {does}: {error}"
            self._tell(text, error)
            return text
        return ""

    def attempt_for(self, pool: Pool, does: str, deed: Callable[[], object]) -> None:
        """Do this for a pool, which has a symptom until everything that failed for it succeeds. Else as `attempt`."""
        failing = self._of_pools.setdefault(pool, {})
        failing[does] = self.attempt(does, deed, pool.name)
        if texts := [*filter(None, failing.values())]:
            pool.symptoms.notice(Event.DUTY_FAILED, f"{'; '.join(texts)}; it is tried again", degrades=True)
        else:
            pool.symptoms.heal(Event.DUTY_FAILED)

    def pause(self) -> None:
        """Wait a moment if anything has failed since the last call."""
        if self._failed:
            self._failed = False
            time.sleep(PAUSE_S)

    def _tell(self, text: str, error: Exception) -> None:
        now_s = monotonic_s()
        self._told_s = {text: told_s for text, told_s in self._told_s.items() if now_s < told_s + TOLD_AGAIN_S}
        if text in self._told_s:
            return
        self._told_s[text] = now_s
        log(Event.DUTY_FAILED, f"{text}; it is tried again, all others go on", level=logging.ERROR)
        if not isinstance(error, OSError):
            logging.getLogger(__name__).error("this is a bug in preforkd", exc_info=error)


class EachPool:
    """A duty that is done pool by pool: a failure for one pool does not concern the others."""

    def __init__(
        self,
        does: str,
        pools: Collection[Pool],
        failures: Failures,
        deed: Callable[[Pool, float], object],
        due_s: Callable[[Pool], float] = lambda pool: float("inf"),
    ) -> None:
        """`deed(pool, now_s)`: the part for one pool; `does` and `due_s(pool)`: as in `Duty`."""
        self.does = does
        self._pools = pools
        self._failures = failures
        self._deed = deed
        self._due_s = due_s

    @property
    def due_s(self) -> float:
        """The earliest time at which a pool needs it (CLOCK_MONOTONIC)."""
        return min(map(self._due_s, self._pools), default=float("inf"))

    def turn(self, now_s: float) -> None:
        """Do it for each pool."""
        for pool in list(self._pools):
            self._failures.attempt_for(pool, self.does, partial(self._deed, pool, now_s))
