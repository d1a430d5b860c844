"""The rate limit of a hook: a few events of a time window singly, the others as one sum. Pure; for hooks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MAX_NAMES = 20
SUMMARY = "hooks.summary"


@dataclass
class _Window:
    """`told`: events told singly; `counts`: the others, by pool, event and cause; `dropped`: lost by the master."""

    until_s: float
    told: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    dropped: int = 0

    def summary(self, within_s: float) -> dict[str, Any]:
        total = self.counts.total() + self.dropped
        facts = {"event": SUMMARY, "count": total, "counts": dict(self.counts), "dropped": self.dropped}
        return facts | {"within_s": within_s}


class Digest:
    """`rate`: (n, seconds): of each hook, n events in so many seconds (CLOCK_MONOTONIC) are told singly."""

    def __init__(self, rate: tuple[int, float]) -> None:
        self._most, self._within_s = rate
        self._windows: dict[str, _Window] = {}

    def admits(self, hook: str, facts: dict[str, Any], now_s: float) -> bool:
        """Whether the event of `hook` with these `facts` is told now; otherwise it is counted."""
        window = self._window(hook, now_s)
        if window.told < self._most:
            window.told += 1
            return True
        name = " ".join(str(facts[key]) for key in ("pool", "event", "cause") if facts.get(key))
        window.counts[name if name in window.counts or len(window.counts) < MAX_NAMES else "others"] += 1
        return False

    def missed(self, hook: str, count: int, now_s: float) -> None:
        """Add `count` events of `hook` that the master has dropped."""
        self._window(hook, now_s).dropped += count

    def take_sums(self, now_s: float) -> list[tuple[str, dict[str, Any]]]:
        """The sums of the windows that have ended, by hook."""
        over = {hook: window for hook, window in self._windows.items() if now_s >= window.until_s}
        for hook in over:
            del self._windows[hook]
        sums = ((hook, window.summary(self._within_s)) for hook, window in over.items())
        return [(hook, facts) for hook, facts in sums if facts["count"]]

    @property
    def due_s(self) -> float:
        """When the next window ends."""
        return min((window.until_s for window in self._windows.values()), default=float("inf"))

    def _window(self, hook: str, now_s: float) -> _Window:
        """The present window of a hook. Windows that have ended must have been taken before."""
        return self._windows.setdefault(hook, _Window(now_s + self._within_s))
