"""The consequence of a failed run: another attempt, the dead letters, or the parked queue. Pure, a table.

Used by the settlement, in the consumer process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from supervisor.config.schema import PoolConfig
from supervisor.consumer.settlement.messages import Failure
from supervisor.ledger.base import RowState
from supervisor.scoreboard.words import OutcomeKind


class Fate(NamedTuple):
    """`pending`: which copy is to be made. `failure`: why, with the delay of a retry copy."""

    pending: RowState
    failure: Failure


_Test = Callable[[OutcomeKind, int, PoolConfig], bool]

_RULES: tuple[tuple[_Test, RowState], ...] = (
    (lambda kind, attempt, pool: kind is OutcomeKind.REJECT, RowState.DEAD_PENDING),
    (lambda kind, attempt, pool: kind is OutcomeKind.IN_DOUBT and pool.on_crash == "park", RowState.PARKED_PENDING),
    (lambda kind, attempt, pool: attempt >= pool.max_attempts, RowState.DEAD_PENDING),
    (lambda kind, attempt, pool: True, RowState.RETRY_PENDING),
)
"""The first row whose test holds decides."""


def fate_of(kind: OutcomeKind, attempt: int, pool: PoolConfig, failure: Failure) -> Fate:
    """The fate of a message after run number `attempt` ended as `kind`; IN_DOUBT: its worker died."""
    pending = next(state for test, state in _RULES if test(kind, attempt, pool))
    if pending is RowState.RETRY_PENDING:
        failure = delayed(failure, attempt, pool.retry_delays_s)
    return Fate(pending, failure)


def delayed(failure: Failure, attempt: int, delays_s: Sequence[float]) -> Failure:
    """The failure with the delay before the next attempt: the one that the handler asked for, or the pool's. Of
    `delays_s` the last one repeats; `attempt`: the run that failed, from 1."""
    delay_s = failure.delay_s or delays_s[min(attempt, len(delays_s)) - 1]
    return msgspec.structs.replace(failure, delay_s=delay_s)
