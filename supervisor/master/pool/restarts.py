"""When a dead child is replaced: cause, life, the child spec's history and the clock -> a decision. Pure; master only.

The first replacement is immediate, the second comes after `restart_backoff`, each further one after twice that, with
jitter, up to the cap; only consecutive deaths without progress count. After too many of them in a pool, the child spec
is held. Progress is one thing for all kinds of children: to have been ready for `STEADY_S`, or, for a
worker, to have ended a message.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from supervisor.config.schema import PoolConfig
from supervisor.logs.events import Cause
from supervisor.master.pool.children import ChildSpec


class Policy(Enum):
    """How a cause counts."""

    AT_ONCE = auto()
    BACK_OFF = auto()
    BOOT = auto()  # backs off, but is held soon: trying again rarely heals an import
    NEVER = auto()


POLICIES: dict[Cause, Policy] = {
    Cause.CLEAN_STOP: Policy.BACK_OFF,  # unasked; a child that was asked to leave is replaced at once
    Cause.UNEXPECTED_EXIT: Policy.BACK_OFF,
    Cause.RECYCLED: Policy.AT_ONCE,
    Cause.BOOT_FAILED: Policy.BOOT,
    Cause.TIMEOUT: Policy.BACK_OFF,  # a worker's has ended a message, which is progress
    Cause.CRASH: Policy.BACK_OFF,
    Cause.KILLED: Policy.BACK_OFF,
    Cause.OUT_OF_MEMORY: Policy.BACK_OFF,
    Cause.MEMORY_LIMIT: Policy.BACK_OFF,
    Cause.STOP_KILLED: Policy.NEVER,
    Cause.LOST: Policy.AT_ONCE,
}
"""docs/exits.md, column `restart`. All of it only while the child is still wanted."""


BOOT_TRIES = 3
"""So many failed boots hold a child spec; as many deaths in a row without progress make its pool degraded."""

STEADY_S = 10.0
"""A child that was ready for so long works. Readiness alone proves nothing: the child may die of its first message."""

_JITTER = 0.25


def in_trouble(spec: ChildSpec) -> bool:
    """Whether its last children died one after the other, and the present one has made no progress."""
    return spec.held or spec.deaths >= BOOT_TRIES


@dataclass(frozen=True)
class Lifetime:
    """The facts of a child's life. `ready_for_s`: for how long it has been ready, None for not at all; `messages`: how
    many runs have ended in it; `asked`: the master wanted it to leave."""

    ready_for_s: float | None = None
    messages: int = 0
    asked: bool = False

    @property
    def progressed(self) -> bool:
        """Whether it has made progress."""
        return self.messages > 0 or (self.ready_for_s is not None and self.ready_for_s >= STEADY_S)


@dataclass(frozen=True)
class Decision:
    """Start the next one in `delay_s` seconds (None: not at all); `hold`: the child spec is held."""

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
    life: Lifetime,
    spec: ChildSpec,
    intensity: Intensity,
    config: PoolConfig,
    now_s: float,
    chance: float,
    boot_tries: int = BOOT_TRIES,
) -> Decision:
    """The decision after this death. `chance`: from [0, 1); `boot_tries`: so many failed boots in a row hold the
    child spec.

    Writes the fields of `spec` (`deaths`, `held`, `on_probation`) and the pool's `intensity`, nothing else.
    """
    policy = POLICIES[cause]
    if life.progressed:
        spec.progressed()
    if policy is Policy.NEVER:
        return Decision(None)
    if policy is Policy.AT_ONCE or life.asked or life.progressed:
        return Decision(0.0)
    spec.count_death()
    hold = intensity.exceeded(now_s, config.restart_intensity) or spec.on_probation
    if hold or (policy is Policy.BOOT and spec.deaths >= boot_tries):
        spec.hold()
        return Decision(config.hold_retry_s, hold=True)
    return Decision(back_off_s(spec.deaths, config.restart_backoff_s, chance))


def decide_unborn(spec: ChildSpec, intensity: Intensity, config: PoolConfig, now_s: float) -> Decision:
    """The decision after a failed start (no process, no descriptor): as a death without progress, but never at once."""
    decision = decide(Cause.CRASH, Lifetime(), spec, intensity, config, now_s, 0.0)
    soonest_s = config.restart_backoff_s[0]
    return decision if decision.hold else Decision(max(soonest_s, decision.delay_s or 0.0))


def back_off_s(deaths: int, backoff_s: tuple[float, float], chance: float) -> float:
    """Seconds before the replacement after this many consecutive deaths; `chance` from [0, 1) spreads them."""
    second_s, cap_s = backoff_s
    if deaths <= 1:
        return 0.0
    doubled_s = second_s * 2.0 ** min(deaths - 2, 60)
    return min(cap_s, doubled_s) * (1.0 - _JITTER * chance)
