"""The names of queues that belong to a work queue, and the ladder of delays. Pure; shared by both brokers."""

from __future__ import annotations

from bisect import bisect_left

from supervisor.config.schema import PoolConfig

_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0

DELAY_LADDER_S = (
    *(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(minutes * _MINUTE_S for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * _HOUR_S for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY_S for days in (1, 2, 3, 7)),
)
"""Every delay a message can be given, in seconds. One delay queue per step: mixed TTLs block at the queue's head."""


def delay_step_s(delay_s: float) -> float:
    """`delay_s` rounded up to the ladder; beyond its end the last step."""
    return DELAY_LADDER_S[min(bisect_left(DELAY_LADDER_S, delay_s), len(DELAY_LADDER_S) - 1)]


def retry_queue(queue: str, delay_s: float) -> str:
    """The delay queue of `queue` for `delay_s`, rounded up to the ladder: `email.retry.10000`."""
    return f"{queue}.retry.{round(delay_step_s(delay_s) * 1000)}"


def dead_queue(queue: str) -> str:
    """The queue for dead letters of `queue`: `email.dead`."""
    return f"{queue}.dead"


def parked_queue(queue: str) -> str:
    """The queue for messages of `queue` whose worker died with `on_crash = "park"`: `email.parked`."""
    return f"{queue}.parked"


def configured_delays_s(pool: PoolConfig) -> list[float]:
    """The ladder steps that a pool's `retry_delays` use; their queues exist before consumption starts."""
    return sorted({delay_step_s(delay_s) for delay_s in pool.retry_delays_s})
