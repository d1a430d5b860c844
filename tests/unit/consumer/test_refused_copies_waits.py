"""How long a refused copy waits, and which go first when there is room again."""

from __future__ import annotations

import itertools

from supervisor.brokers.base import Outgoing
from supervisor.consumer.settlement.refused_copies import (
    AGAIN_S,
    HOPELESS_AFTER,
    HOPELESS_AGAIN_S,
    RefusedCopies,
    destination,
)
from supervisor.messages.message import Properties

FULL = "queue full"


def a_copy(token: int, queue: str = "work.dead", delay_s: float = 0.0) -> Outgoing:
    return Outgoing(token, "", queue, Properties(), b"", delay_s)


def refused(*tokens: int) -> RefusedCopies:
    copies = RefusedCopies()
    for token in tokens:
        copies.add(a_copy(token), FULL)
    return copies


def test_the_wait_doubles_up_to_the_longest() -> None:
    copies, waits = RefusedCopies(), []
    for _ in range(100):
        copies.add(a_copy(1), FULL)
        waits.append(copies.wait_s(1))
    assert waits[0] == AGAIN_S[0]
    assert all(later == min(2 * earlier, AGAIN_S[1]) for earlier, later in itertools.pairwise(waits))


def test_what_was_never_refused_waits_as_after_the_first_refusal() -> None:
    assert RefusedCopies().wait_s(7) == AGAIN_S[0]


def test_only_the_first_refusal_of_a_copy_is_news() -> None:
    copies = RefusedCopies()
    assert [copies.add(a_copy(1), FULL), copies.add(a_copy(1), FULL), copies.add(a_copy(2), FULL)] == [
        True,
        False,
        True,
    ]
    assert copies.changes == len(copies) == 2


def test_two_of_the_same_queue_follow_one_that_was_placed() -> None:
    copies = refused(1, 2, 3, 4)
    copies.add(a_copy(5, "work.parked"), FULL)
    copies.drop(1)
    assert copies.next_for("work.dead") == [2, 3]
    copies.published(2)
    assert copies.next_for("work.dead") == [3, 4]
    copies.add(a_copy(2), FULL)
    assert copies.next_for("work.dead") == [3, 4]
    assert copies.next_for("elsewhere") == []


def test_a_copy_that_is_dropped_leaves_nothing_behind() -> None:
    copies = refused(1)
    copies.drop(1)
    copies.drop(1)
    copies.published(1)
    assert (len(copies), copies._waiting, copies._reasons) == (0, {}, {})


def test_each_queue_is_told_with_its_number_and_its_last_reason() -> None:
    copies = refused(1, 2)
    copies.add(a_copy(3, "work", 5.0), "may not be declared")
    assert "2 for 'work.dead': queue full" in copies.told()
    assert "1 for 'work.retry.5000': may not be declared" in copies.told()


def test_a_delayed_copy_is_for_its_delay_queue() -> None:
    assert destination(a_copy(1, "work", 0.3)) == "work.retry.500"


# ---- refused for what they are -------------------------------------------------------------------------------------


def hopeless(token: int = 1, size: int = 5) -> RefusedCopies:
    copies = RefusedCopies()
    for _ in range(HOPELESS_AFTER):
        copies.add(Outgoing(token, "", "work.dead", Properties(message_id="big"), b"x" * size), "too large", True)
    return copies


def test_a_copy_that_is_refused_for_what_it_is_becomes_hopeless_and_is_tried_rarely() -> None:
    copies = hopeless()
    assert (copies.is_hopeless(1), copies.wait_s(1)) == (True, HOPELESS_AGAIN_S)
    copies.published(1)
    assert not copies.is_hopeless(2)


def test_it_is_told_with_its_id_its_size_and_what_to_do() -> None:
    told = hopeless(size=1234).told()
    for words in ("'big' (1234 bytes)", "'work.dead'", "too large", "max_message_size"):
        assert words in told
    assert "refused for its content" not in refused(1, 2).told()


def test_one_that_was_placed_says_nothing_about_a_hopeless_one() -> None:
    copies = hopeless()
    copies.add(a_copy(2), FULL)
    assert copies.next_for("work.dead") == [2]


def test_another_refusal_in_between_starts_the_count_again() -> None:
    copies = RefusedCopies()
    for for_good in [True] * (HOPELESS_AFTER - 1) + [False] + [True] * (HOPELESS_AFTER - 1):
        copies.add(a_copy(1), FULL, for_good)
    assert not copies.is_hopeless(1)
    copies.add(a_copy(1), FULL, True)
    assert copies.is_hopeless(1)


def test_a_change_of_what_is_told_is_a_change() -> None:
    copies = hopeless()
    before = copies.changes
    copies.add(Outgoing(1, "", "work.dead", Properties(message_id="big"), b"x" * 5), "too large", True)
    assert copies.changes == before
    copies.add(a_copy(1), FULL)
    assert copies.changes == before + 1
    assert not copies.is_hopeless(1)
    copies.drop(1)
    assert len(copies) == 0
