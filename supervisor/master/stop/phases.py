"""The phases of a stop, and the conditions for the next one. Pure; `stopping.py` acts in each phase.

DRAINING: consumers return what was not started, handlers run on. LEAVING: workers are asked to leave. KILLING: workers
that are left are killed, consumers settle their messages. QUITTING: forkservers and consumers are told to leave.
ENDING: they are killed. GONE. A second request, or `now`, goes to KILLING at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

LEAVE_S = 5.0
"""How long workers have to leave once nothing is in flight any more (or the stop timeout is over)."""

SETTLE_S = 10.0
"""How long consumers have to settle what killed workers left behind."""

QUIT_S = 10.0
"""How long consumers have to close their connection."""

CLOSE_S = 4.0
"""How long the sidecars have to report the last events, once all pools are gone."""

HURRY_S = 1.0
"""The same for a stop that is to be over at once."""


class StopPhase(IntEnum):
    """In order: a stop only ever goes forward."""

    DRAINING = 1
    LEAVING = 2
    KILLING = 3
    QUITTING = 4
    ENDING = 5
    GONE = 6


@dataclass(frozen=True)
class Facts:
    """What the decision looks at. `drained`: each consumer has drained; `settled`: and has taken all exit notices.

    `workers` and `others`: how many of them are left.
    """

    drained: bool
    settled: bool
    workers: int
    others: int


@dataclass
class Stop:
    """One stop under way. Times are CLOCK_MONOTONIC."""

    requested_by: str
    started_s: float
    timeout_s: float
    now: bool = False
    phase: StopPhase = StopPhase.DRAINING
    overran: bool = False  # the drain took too long: workers that still run a message are killed
    due_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.due_s = self.started_s if self.now else self.started_s + self.timeout_s

    @property
    def deadline_s(self) -> float:
        """When it is over at the latest, every phase taken to its end."""
        return self.started_s + self.timeout_s + CLEANUP_S

    def hurry(self, now_s: float) -> None:
        """A second request: kill what is still running."""
        self.now = True
        if self.phase < StopPhase.KILLING:
            self.due_s = now_s

    def advance(self, facts: Facts, now_s: float) -> bool:
        """Go to the next phase if it is time; True when the phase has changed (call it again after acting on it)."""
        if not self._over(facts, now_s):
            return False
        self.overran = self.overran or (self.phase is StopPhase.DRAINING and not facts.drained)
        following = StopPhase.KILLING if self.now and self.phase < StopPhase.KILLING else StopPhase(self.phase + 1)
        self.phase, self.due_s = following, now_s + _LIMITS_S.get(following, 0.0)
        return True

    def _over(self, facts: Facts, now_s: float) -> bool:
        late = now_s >= self.due_s
        alive = facts.workers + facts.others
        return {
            StopPhase.DRAINING: late or facts.drained,
            StopPhase.LEAVING: late or not facts.workers,
            StopPhase.KILLING: not facts.workers and (late or facts.settled),
            StopPhase.QUITTING: late or not alive,
            StopPhase.ENDING: not alive,
            StopPhase.GONE: False,
        }[self.phase]


_LIMITS_S = {StopPhase.LEAVING: LEAVE_S, StopPhase.KILLING: SETTLE_S, StopPhase.QUITTING: QUIT_S}

CLEANUP_S = sum(_LIMITS_S.values()) + CLOSE_S
"""How long a stop may take beyond its timeout, every phase taken to its end."""
