"""The messages that a client holds: their order, their time limits, and what each caller is told."""

from __future__ import annotations

import pytest

from supervisor.client.backlog import WINDOW, WINDOW_BYTES, Backlog, Item
from supervisor.client.errors import Refused, TimedOut, Unroutable
from supervisor.messages.message import Properties, Publication


class Held:
    """A backlog with items 1, 2, 3 …, each with its token as its body."""

    def __init__(self, count: int = 0, limit_s: float | None = None, size_bytes: int = 1) -> None:
        self.released: list[int] = []
        self.backlog = Backlog(lambda item: self.released.append(item.token))
        self.items: dict[int, Item] = {}
        for _ in range(count):
            self.add(limit_s, size_bytes)

    def add(self, limit_s: float | None = None, size_bytes: int = 1, now_s: float = 0.0) -> Item:
        token = len(self.items) + 1
        publication = Publication("", "orders", Properties(message_id=f"m{token}"), b"x" * size_bytes)
        item = self.items[token] = Item(publication, 0.0, limit_s, waited_for=True)
        item.admit(token, now_s)
        self.backlog.add(item)
        return item

    def sent(self) -> list[int]:
        """All that can be sent now, sent."""
        tokens = []
        while (item := self.backlog.next_to_send()) is not None:
            tokens.append(item.token)
        return tokens

    def lose(self, *tokens: int) -> None:
        for token in tokens:
            assert self.backlog.unpublished(token, lost=True) is None
        self.backlog.send_again()


def test_messages_are_sent_in_order_and_leave_with_their_confirm() -> None:
    held = Held(3)

    assert held.sent() == [1, 2, 3]
    held.backlog.confirmed(2)
    assert held.items[2].future.result(0) == "m2"
    assert held.released == [2]
    assert not held.items[1].future.done()


def test_lost_messages_are_sent_again_before_later_ones_and_in_their_order() -> None:
    held = Held(4)
    held.sent()
    held.backlog.confirmed(2)
    held.add()
    held.lose(4, 1, 3)

    assert held.sent() == [1, 3, 4, 5]
    assert held.released == [2]


def test_a_message_that_failed_after_it_was_sent_twice_may_be_at_the_broker_whatever_its_last_fate() -> None:
    held = Held(2)
    held.sent()
    held.lose(1)
    held.sent()
    for token in (1, 2):
        failed = held.backlog.unpublished(token, lost=False)
        assert failed is not None
        failed.fail(Unroutable, "there is no queue 'orders'", absent=True)
    twice, once = (held.items[token].future.exception(0) for token in (1, 2))

    assert isinstance(twice, Unroutable)
    assert twice.maybe_published
    assert "message_id='m1', and it runs once" in str(twice)
    assert isinstance(once, Unroutable)
    assert not once.maybe_published
    assert "it is not at the broker" in str(once)


def test_a_message_that_was_never_sent_is_certainly_not_at_the_broker_when_its_time_is_over() -> None:
    held = Held(1, limit_s=5.0)
    assert held.backlog.next_due_s == 5.0
    assert held.backlog.overdue(4.9) == []
    (overdue,) = held.backlog.overdue(5.0)
    overdue.fail(TimedOut, "no confirm within 5 s")

    failed = held.items[1].future.exception(0)
    assert isinstance(failed, TimeoutError)
    assert isinstance(failed, TimedOut)
    assert not failed.maybe_published
    assert held.released == [1], "it makes room at once"
    assert held.sent() == []
    assert held.backlog.next_due_s is None


def test_a_message_under_way_whose_time_is_over_keeps_its_room_until_its_fate_and_is_not_sent_again() -> None:
    held = Held(2, limit_s=5.0)
    held.sent()
    for item in held.backlog.overdue(5.0):
        item.fail(TimedOut, "no confirm within 5 s")
    assert [held.items[token].future.exception(0).maybe_published for token in (1, 2)] == [True, True]  # type: ignore[union-attr]
    assert held.released == []

    held.backlog.confirmed(1)
    assert held.backlog.unpublished(2, lost=True) is not None
    held.backlog.send_again()
    assert held.sent() == []
    assert held.released == [1, 2]
    assert len(held.backlog) == 0


def test_a_lost_message_whose_time_is_over_before_it_is_sent_again_may_be_at_the_broker() -> None:
    held = Held(1, limit_s=5.0)
    held.sent()
    held.lose(1)
    (overdue,) = held.backlog.overdue(9.0)
    overdue.fail(TimedOut, "no confirm within 5 s")

    failed = held.items[1].future.exception(0)
    assert isinstance(failed, TimedOut)
    assert failed.maybe_published
    assert held.sent() == []
    assert held.released == [1]


def test_no_more_than_a_window_is_under_way() -> None:
    held = Held(WINDOW + 2)
    assert len(held.sent()) == WINDOW
    held.backlog.confirmed(7)
    assert held.sent() == [WINDOW + 1]


def test_a_message_larger_than_the_window_is_sent_alone() -> None:
    held = Held(2, size_bytes=WINDOW_BYTES)
    assert held.sent() == [1]
    held.backlog.confirmed(1)
    assert held.sent() == [2]


def test_a_fate_that_comes_twice_or_of_an_unknown_message_changes_nothing() -> None:
    held = Held(2)
    held.sent()
    held.backlog.confirmed(1)
    held.backlog.confirmed(1)
    held.backlog.confirmed(99)

    assert held.backlog.unpublished(1, lost=False) is None
    assert held.released == [1]
    assert held.sent() == []


def test_what_is_forgotten_is_told_once_and_leaves_when_it_is_not_under_way() -> None:
    held = Held(3)
    held.backlog.next_to_send()
    forgotten = held.backlog.forget_untold()
    for item in forgotten:
        item.fail(Refused, "closed")
        item.fail(TimedOut, "told twice")

    assert [item.token for item in forgotten] == [1, 2, 3]
    assert held.released == [2, 3]
    assert isinstance(held.items[1].future.exception(0), Refused)
    assert held.backlog.untold == []


def test_a_future_cannot_be_cancelled_since_the_message_stays() -> None:
    item = Held(1).items[1]

    assert not item.future.cancel()
    item.confirm()
    assert item.future.result(0) == "m1"


@pytest.mark.parametrize("limits", [(3.0, 1.0, 2.0), (1.0, 1.0, 1.0)])
def test_time_limits_end_in_their_own_order(limits: tuple[float, ...]) -> None:
    held = Held()
    for limit_s in limits:
        held.add(limit_s)
    ended = [item.limit_s for at_s in (1.0, 2.0, 3.0) for item in held.backlog.overdue(at_s)]

    assert ended == sorted(limits)
