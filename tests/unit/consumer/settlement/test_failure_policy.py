"""What follows a run that did not end well."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.config.schema import PoolConfig
from supervisor.consumer.settlement.failure_policy import fate_of
from supervisor.consumer.settlement.messages import Failure
from supervisor.ledger.base import RowState
from supervisor.scoreboard.words import OutcomeKind

RETRY, DEAD, PARKED = RowState.RETRY_PENDING, RowState.DEAD_PENDING, RowState.PARKED_PENDING
WHY = Failure("failed", "no")


@pytest.mark.parametrize(
    ("kind", "attempt", "on_crash", "pending"),
    [
        (OutcomeKind.FAILED, 1, "retry", RETRY),
        (OutcomeKind.FAILED, 2, "retry", RETRY),
        (OutcomeKind.FAILED, 3, "retry", DEAD),
        (OutcomeKind.FAILED, 9, "park", DEAD),
        (OutcomeKind.RETRY, 3, "retry", DEAD),
        (OutcomeKind.SOFT_TIMEOUT, 2, "park", RETRY),
        (OutcomeKind.PUBLISH_FAILED, 1, "park", RETRY),
        (OutcomeKind.REJECT, 1, "retry", DEAD),
        (OutcomeKind.IN_DOUBT, 1, "retry", RETRY),
        (OutcomeKind.IN_DOUBT, 3, "retry", DEAD),
        (OutcomeKind.IN_DOUBT, 1, "park", PARKED),
        (OutcomeKind.IN_DOUBT, 3, "park", PARKED),
    ],
)
def test_kind_attempt_and_pool_decide_what_follows(
    kind: OutcomeKind, attempt: int, on_crash: str, pending: RowState
) -> None:
    pool = PoolConfig("p", "q", "h:h", max_attempts=3, on_crash=on_crash, retry_delays_s=(3.0, 9.0))
    found, failure = fate_of(kind, attempt, pool, WHY)
    assert found is pending
    assert (failure.delay_s > 0) is (pending is RETRY)
    assert msgspec.structs.replace(failure, delay_s=0.0) == WHY
