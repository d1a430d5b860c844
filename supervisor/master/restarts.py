"""When a dead child is replaced: its cause, its seat's history and the clock -> a decision. Pure; master only.

The first replacement is immediate, the second comes after `restart_backoff`, each further one after twice that, with
jitter, up to the cap; only consecutive deaths without progress count (a finished message; for a forkserver or
consumer: having become ready). Too many of them in a pool, and the seat is held instead of spinning.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from supervisor.events import Cause
from supervisor.master.children import Seat


class Policy(Enum):
    """How a cause counts."""

    AT_ONCE = auto()
    BACK_OFF = auto()
    BOOT = auto()  # backs off, but is held soon: trying again rarely heals an import
    NEVER = auto()


POLICIES: dict[Cause, Policy] = {
    Cause.CLEAN_STOP: Policy.AT_ONCE,
    Cause.UNEXPECTED_EXIT: Policy.BACK_OFF,
    Cause.RECYCLED: Policy.AT_ONCE,
    Cause.BOOT_FAILED: Policy.BOOT,
    Cause.TIMEOUT: Policy.AT_ONCE,
    Cause.CRASH: Policy.BACK_OFF,
    Cause.KILLED: Policy.BACK_OFF,
    Cause.OUT_OF_MEMORY: Policy.BACK_OFF,
    Cause.MEMORY_LIMIT: Policy.BACK_OFF,
    Cause.STOP_KILLED: Policy.NEVER,
    Cause.LOST: Policy.AT_ONCE,
}
"""docs/exits.md, column `restart`. All of it only while the child is still wanted."""


class Patience(Protocol):
    """Of a pool's configuration, what says how often and when to try again."""

    @property
    def restart_backoff_s(self) -> tuple[float, float]:
        """Delay of the second replacement, and the cap."""

    @property
    def restart_intensity(self) -> tuple[int, float]:
        """More deaths than this within this time: hold."""

    @property
    def hold_retry_s(self) -> float:
        """How long a held seat waits."""


BOOT_TRIES = 3
_JITTER = 0.25


@dataclass(frozen=True)
class Decision:
    """Start the next one in `delay_s` seconds (None: not at all); `hold`: and tell everybody that the seat is held."""

    delay_s: float | None
    hold: bool = False


@dataclass
class Intensity:
    """The recent deaths without progress of one pool (CLOCK_MONOTONIC)."""

    times_s: deque[float] = field(default_factory=deque)

    def exceeded(self, now_s: float, limit: tuple[int, float]) -> bool:
        """Count one more; whether there were more than `limit[0]` of them within `limit[1]` seconds."""
        count, within_s = limit
        self.times_s.append(now_s)
        while self.times_s[0] < now_s - within_s:
            self.times_s.popleft()
        return len(self.times_s) > count


def decide(
    cause: Cause,
    progressed: bool,
    seat: Seat,
    intensity: Intensity,
    config: Patience,
    now_s: float,
    chance: float,
) -> Decision:
    """What follows this death. `progressed`: it had finished a message (become ready). `chance`: from [0, 1).

    Writes the seat's books (`deaths`, `on_probation`) and the pool's `intensity`; nothing else happens here.
    """
    policy = POLICIES[cause]
    if progressed:
        seat.deaths, seat.on_probation = 0, False
    if policy is Policy.NEVER:
        return Decision(None)
    if policy is Policy.AT_ONCE or progressed:
        return Decision(0.0)
    seat.deaths += 1
    hold = intensity.exceeded(now_s, config.restart_intensity) or seat.on_probation
    if hold or (policy is Policy.BOOT and seat.deaths >= BOOT_TRIES):
        seat.on_probation = True
        return Decision(config.hold_retry_s, hold=True)
    return Decision(back_off_s(seat.deaths, config.restart_backoff_s, chance))


def back_off_s(deaths: int, backoff_s: tuple[float, float], chance: float) -> float:
    """Seconds before the replacement after this many consecutive deaths; `chance` from [0, 1) spreads them."""
    second_s, cap_s = backoff_s
    if deaths <= 1:
        return 0.0
    doubled_s = second_s * 2.0 ** min(deaths - 2, 60)
    return min(cap_s, doubled_s) * (1.0 - _JITTER * chance)
