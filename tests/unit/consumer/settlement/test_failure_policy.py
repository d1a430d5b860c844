"""What follows a run that did not end well."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.config.schema import PoolConfig
from supervisor.consumer.settlement.failure_policy import attempt_of, fate_of
from supervisor.consumer.settlement.messages import NONE_EARLIER, Earlier, Failure
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
        (OutcomeKind.FAILED, 2, "inbox", RETRY),
        (OutcomeKind.FAILED, 3, "inbox", DEAD),
        (OutcomeKind.REJECT, 1, "inbox", DEAD),
    ],
)
def test_kind_attempt_and_pool_decide_what_follows(
    kind: OutcomeKind, attempt: int, on_crash: str, pending: RowState
) -> None:
    pool = PoolConfig("p", "q", "h:h", max_attempts=3, on_crash=on_crash, retry_delays_s=(3.0, 9.0))
    found, failure = fate_of(kind, attempt, pool, WHY, NONE_EARLIER)
    assert found is pending
    assert (failure.delay_s > 0) is (pending is RETRY)
    assert msgspec.structs.replace(failure, delay_s=0.0, earlier=None) == WHY


# ---- an inbox decides ------------------------------------------------------------------------------------------------

INBOX = PoolConfig("p", "q", "h:h", max_attempts=3, on_crash="inbox", retry_delays_s=(3.0,))
DIED = Failure("crash", "p/0 ended while running it: crash (SIGSEGV)", "p/0", "frames", None, "SIGSEGV")
ONE_DEATH = Earlier(deaths=1, database=b"d" * 16)
ASKED = Earlier(1, b"d" * 16, DIED, 4)


@pytest.mark.parametrize(
    ("attempt", "earlier", "asks"),
    [(1, NONE_EARLIER, False), (2, ONE_DEATH, False), (3, ONE_DEATH, False), (4, ONE_DEATH, True)],
)
def test_the_first_death_is_not_charged_and_the_last_one_has_the_inbox_asked(
    attempt: int, earlier: Earlier, asks: bool
) -> None:
    pending, failure = fate_of(OutcomeKind.IN_DOUBT, attempt, INBOX, DIED, earlier)
    after = failure.earlier
    assert (pending, failure.delay_s) == (RETRY, 0.0)
    assert after is not None
    assert (after.deaths, after.given_up is not None) == (earlier.deaths + 1, asks)
    assert after.told == ("4 attempts, the last: crash (SIGSEGV), p/0" if asks else "")


@pytest.mark.parametrize(("attempt", "pending"), [(2, RETRY), (3, RETRY), (4, DEAD)])
def test_a_failed_run_after_a_death_has_one_attempt_more_and_asks_nothing(attempt: int, pending: RowState) -> None:
    found, failure = fate_of(OutcomeKind.FAILED, attempt, INBOX, WHY, ONE_DEATH)
    assert found is pending
    assert failure.earlier is None or failure.earlier.given_up is None


def test_with_one_attempt_a_death_is_followed_by_one_that_counts() -> None:
    pool = msgspec.structs.replace(INBOX, max_attempts=1)
    first = fate_of(OutcomeKind.IN_DOUBT, 1, pool, DIED, NONE_EARLIER)[1].earlier
    assert first is not None
    assert first.given_up is None
    second = fate_of(OutcomeKind.IN_DOUBT, 2, pool, DIED, first)[1].earlier
    assert second is not None
    assert second.given_up == DIED


@pytest.mark.parametrize("kind", [kind for kind in OutcomeKind if kind is not OutcomeKind.DONE])
@pytest.mark.parametrize("on_crash", ["inbox", "retry", "park"])
def test_an_attempt_that_only_asked_is_the_last_and_its_letter_tells_of_the_death(
    kind: OutcomeKind, on_crash: str
) -> None:
    pool = msgspec.structs.replace(INBOX, on_crash=on_crash)
    pending, failure = fate_of(kind, 5, pool, Failure("what", "it said"), ASKED)
    assert pending is DEAD
    assert failure.reason.startswith(f"{DIED.reason}; then its inbox was asked")
    assert "it said" in failure.reason
    assert ("not known" in failure.reason) is (kind is not OutcomeKind.REJECT)
    assert msgspec.structs.replace(failure, reason=DIED.reason) == DIED


@pytest.mark.parametrize("kind", [OutcomeKind.FAILED, OutcomeKind.RETRY, OutcomeKind.IN_DOUBT])
@pytest.mark.parametrize("on_crash", ["inbox", "retry"])
def test_the_next_attempt_knows_the_database_of_any_run_before(kind: OutcomeKind, on_crash: str) -> None:
    pool = msgspec.structs.replace(INBOX, on_crash=on_crash)
    failure = fate_of(kind, 1, pool, msgspec.structs.replace(WHY, database=b"d" * 16), NONE_EARLIER)[1]
    assert failure.earlier is not None
    assert failure.earlier.database == b"d" * 16
    later = fate_of(kind, 2, pool, WHY, failure.earlier)[1]
    assert later.earlier is not None
    assert later.earlier.database == b"d" * 16


@pytest.mark.parametrize(("database", "says"), [(b"d" * 16, True), (b"", False)])
def test_a_letter_of_refused_publications_says_that_the_effect_is_committed(database: bytes, says: bool) -> None:
    refused = Failure("publish_failed", "publish failed: no queue", database=database)
    pending, failure = fate_of(OutcomeKind.PUBLISH_FAILED, 3, INBOX, refused, NONE_EARLIER)
    assert pending is DEAD
    assert ("its effect is committed" in failure.reason) is says


def test_the_log_counts_attempts_as_the_policy_does() -> None:
    assert attempt_of(OutcomeKind.FAILED, 2, INBOX, NONE_EARLIER) == "attempt 2 of 3"
    assert attempt_of(OutcomeKind.IN_DOUBT, 1, INBOX, NONE_EARLIER) == "attempt 1 of 4"
    assert attempt_of(OutcomeKind.FAILED, 4, INBOX, ONE_DEATH) == "attempt 4 of 4"
    assert "asked its inbox" in attempt_of(OutcomeKind.REJECT, 5, INBOX, ASKED)
