"""The consequence of a failed run: another attempt, the dead letters, or the parked queue. Pure, a table.

Used by the settlement, in the consumer process.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from supervisor.config.schema import PoolConfig
from supervisor.consumer.settlement.messages import Failure
from supervisor.ledger.base import RowState
from supervisor.scoreboard.words import OutcomeKind

_Test = Callable[[OutcomeKind, int, PoolConfig], bool]

_RULES: tuple[tuple[_Test, RowState], ...] = (
    (lambda kind, attempt, pool: kind is OutcomeKind.REJECT, RowState.DEAD_PENDING),
    (lambda kind, attempt, pool: kind is OutcomeKind.IN_DOUBT and pool.on_crash == "park", RowState.PARKED_PENDING),
    (lambda kind, attempt, pool: attempt >= pool.max_attempts, RowState.DEAD_PENDING),
    (lambda kind, attempt, pool: True, RowState.RETRY_PENDING),
)
"""The first row whose test holds decides."""


def fate_of(kind: OutcomeKind, attempt: int, pool: PoolConfig, failure: Failure) -> tuple[RowState, Failure]:
    """What follows after run number `attempt` ended as `kind` (IN_DOUBT: its worker died): which copy is to be made,
    and the failure, with the delay of a retry copy: the one that the handler asked for, or the pool's (its last one
    repeats)."""
    pending = next(state for test, state in _RULES if test(kind, attempt, pool))
    if pending is RowState.RETRY_PENDING:
        delays_s = pool.retry_delays_s
        delay_s = failure.delay_s or delays_s[min(attempt, len(delays_s)) - 1]
        failure = msgspec.structs.replace(failure, delay_s=delay_s)
    return pending, failure
