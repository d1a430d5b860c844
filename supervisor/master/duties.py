"""Carries out the duties of a turn, each for itself: one that fails is named and tried again, all others go on.

Master only. Each duty deals with the failures that it knows. This file is for unforeseen ones: a system call that
a broken disk or a sandbox refuses, a bug. A master that ends takes all pools with it, for a fault of one; so nothing
but a stop ends it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool.pool import Pool
from supervisor.system.clock import monotonic_s

PAUSE_S = 0.05
"""How long a turn in which a duty has failed lasts at least: a failure that repeats must not occupy a processor."""

TOLD_AGAIN_S = 60.0
"""How often the same failure is logged."""

Duty = Callable[[], object]


class Duties:
    """The recent failures, by text."""

    def __init__(self) -> None:
        self._told_s: dict[str, float] = {}
        self._failed = False

    def carry_out(self, *duties: Duty) -> None:
        """All of them, in order; then a short pause if one has failed."""
        self._failed = False
        for duty in duties:
            self._try(duty, f"the master could not {_words(duty)}")
        if self._failed:
            time.sleep(PAUSE_S)

    def for_each(self, pools: Iterable[Pool], duty: Callable[[Pool], object]) -> None:
        """A part of a duty that is done pool by pool: the pool that it fails for says so, until it works again."""
        for pool in list(pools):
            text = f"pool {pool.name}: the master could not {_words(duty)}"
            error = self._try(lambda pool=pool: duty(pool), text)  # type: ignore[misc]
            if error is not None:
                pool.symptoms.notice(Event.DUTY_FAILED, f"{text}: {error}; it is tried again", degrades=True)
            else:
                pool.symptoms.heal(Event.DUTY_FAILED)

    def _try(self, duty: Duty, text: str) -> Exception | None:
        try:
            duty()
        except Exception as error:  # noqa: BLE001  (whatever it is: other duties and other pools must not suffer)
            self._failed = True
            self._tell(f"{text}: {error}", error)
            return error
        return None

    def _tell(self, text: str, error: Exception) -> None:
        now_s = monotonic_s()
        if now_s < self._told_s.get(text, float("-inf")) + TOLD_AGAIN_S:
            return
        self._told_s = {text: told_s for text, told_s in self._told_s.items() if now_s < told_s + TOLD_AGAIN_S}
        self._told_s[text] = now_s
        log(Event.DUTY_FAILED, f"{text}; it is tried again, all others go on", level=logging.ERROR)
        if not isinstance(error, OSError):
            logging.getLogger(__name__).error("this is a bug in preforkd", exc_info=error)


def _words(duty: Callable[..., object]) -> str:
    """The name of a duty, in words: `_start_what_is_due` -> `start what is due`."""
    name: str = getattr(duty, "__name__", type(duty).__name__)
    return name.strip("_").replace("_", " ")
