"""Which retry copies can no longer be where they wait: deleted, purged, overdue; and which cannot be judged."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import pytest

from supervisor.consumer.settlement.messages import Failure
from supervisor.consumer.settlement.missing import EMPTY_S, MISSING_S, MOST, SHARED_S, WaitingRetries
from supervisor.ledger.base import Row, RowState
from tests.support.settling import key_of

NOW_S = 1000.0
MINUTE = "q.retry.60000"


def row(id: str, delay_s: float = 60.0, at_s: float = NOW_S) -> Row:
    note = msgspec.msgpack.encode(Failure("failed", "no", delay_s=delay_s))
    return Row(key_of(id), 1, 1, RowState.RETRY, -1, 0, at_s, id, note)


def waiting(*rows: Row) -> WaitingRetries:
    retries = WaitingRetries("q")
    for row in rows:
        retries.add(row)
    return retries


def keys(*ids: str) -> set[bytes]:
    return {key_of(id) for id in ids}


def test_a_confirmed_copy_waits_in_the_queue_of_its_step_until_its_delay_is_over() -> None:
    retries = waiting(row("a", 45), row("b", 1))
    assert retries.delay_queues(NOW_S) == ["q.retry.1000", MINUTE]
    assert retries.delay_queues(NOW_S + 2) == [MINUTE]
    assert retries.delay_queues(NOW_S + 61) == []


def test_a_missing_delay_queue_has_lost_what_was_in_it_and_nothing_else() -> None:
    retries = waiting(row("here"), row("over", at_s=NOW_S - 70), row("other", 1))
    lost = retries.missing(MINUTE, NOW_S)
    assert lost.keys() == keys("here")
    assert "was deleted" in lost[key_of("here")]


def test_what_is_found_in_the_ledger_after_its_queue_was_missing_is_lost_too() -> None:
    retries = waiting()
    retries.missing(MINUTE, NOW_S)
    assert "was deleted" in retries.add(row("before", at_s=NOW_S - 1))
    assert retries.add(row("confirmed after", at_s=NOW_S)) == ""
    assert retries.add(row("over by then", at_s=NOW_S - 70)) == ""
    assert len(retries) == 2


def test_a_delay_queue_that_stays_empty_has_lost_what_was_confirmed_before_that() -> None:
    retries = waiting(row("a"))
    assert retries.held(MINUTE, 0, NOW_S + 1) == {}
    retries.add(row("later", at_s=NOW_S + 2))
    assert retries.held(MINUTE, 0, NOW_S + EMPTY_S) == {}
    assert retries.held(MINUTE, 0, NOW_S + 1 + EMPTY_S).keys() == keys("a")


def test_an_empty_queue_that_has_messages_again_has_lost_nothing() -> None:
    retries = waiting(row("a"))
    retries.held(MINUTE, 0, NOW_S)
    retries.held(MINUTE, 1, NOW_S + 20)
    assert retries.held(MINUTE, 0, NOW_S + 21) == {}
    assert retries.held(MINUTE, 0, NOW_S + EMPTY_S + 1) == {}


def test_the_time_without_a_connection_proves_nothing() -> None:
    retries = waiting(row("a"))
    retries.held(MINUTE, 0, NOW_S)
    retries.overdue(NOW_S + 61, ())
    retries.begin_again()
    assert retries.held(MINUTE, 0, NOW_S + EMPTY_S) == {}
    assert retries.overdue(NOW_S + 61 + MISSING_S, ()) == {}


@pytest.mark.parametrize(("here", "lost"), [((), {"a"}), ({key_of("a")}, set())], ids=["not back", "in hand"])
def test_a_copy_that_is_long_overdue_at_an_empty_queue_is_lost(here: Collection[bytes], lost: set[str]) -> None:
    retries = waiting(row("a"), row("not due", 86_400))
    assert retries.overdue(NOW_S + 61, here) == {}
    assert retries.overdue(NOW_S + 60 + MISSING_S, here) == {}
    assert retries.overdue(NOW_S + 61 + MISSING_S, here).keys() == keys(*lost)


def test_a_copy_without_a_delay_is_looked_for_in_the_pools_own_queue() -> None:
    retries = waiting(row("a", 0))
    assert retries.delay_queues(NOW_S) == []
    retries.overdue(NOW_S, ())
    assert retries.overdue(NOW_S + MISSING_S, ()).keys() == keys("a")


def test_what_may_have_gone_to_other_consumers_is_not_judged() -> None:
    retries = waiting(row("due"), row("waits", 3600))
    retries.shared(NOW_S + 61)
    retries.shared(NOW_S + 61 + SHARED_S)
    assert len(retries) == 1
    assert retries.overdue(NOW_S + 10_000, ()) == {}
    assert retries.missing("q.retry.3600000", NOW_S + 200).keys() == keys("waits")


def test_a_former_consumer_of_ours_is_no_other_one() -> None:
    retries = waiting(row("a"))
    retries.shared(NOW_S + 61)
    retries.overdue(NOW_S + 70, ())
    retries.shared(NOW_S + 62 + SHARED_S)
    assert len(retries) == 1


def test_no_more_than_the_bound_are_watched() -> None:
    retries = waiting(*(row(str(number)) for number in range(MOST + 10)))
    assert len(retries) == MOST
