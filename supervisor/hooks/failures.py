"""Failed deliveries in the log, at most one line a minute for each key. Used by the hooks process."""

from __future__ import annotations

import logging

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.system.clock import monotonic_s

EVERY_S = 60.0

_ADVICE = {"webhook": "look at the receiver, or correct webhook in [hooks]"}


class Failures:
    """For each key of [hooks]: the time of the last log line, and the number of failures since without a line."""

    def __init__(self) -> None:
        self._said_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, key: str, reason: str, output: str) -> None:
        """Log or count a delivery that failed for the last time. `key`: of [hooks]; `output`: of its program."""
        now_s = monotonic_s()
        if now_s - self._said_s.get(key, float("-inf")) < EVERY_S:
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return
        self._said_s[key] = now_s
        unsaid = self._unsaid.pop(key, 0)
        more = f" ({unsaid} more failures since the last such line)" if unsaid else ""
        advice = _ADVICE.get(key, f"correct the command, or {key} in [hooks]")
        text = f"hooks.{key} {reason}{more}; the event is not reported: {advice}"
        log(Event.HOOK_FAILED, text, level=logging.WARNING, key=key, reason=reason, output=output, unsaid=unsaid)

    def heal(self, key: str) -> None:
        """Note a success of `key`: its next failure is logged at once, unless others are still uncounted in the log."""
        if not self._unsaid.get(key):
            self._said_s.pop(key, None)
