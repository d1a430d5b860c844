"""What is pending at a consumer: owed until it is confirmed, told again to each new consumer, taken once."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.link.frames import Drained, ExitNotice, Find, Found, Frame, Incarnation, Letters
from supervisor.master.pool.consumer_channel import EXIT_NOTICE_AGAIN_S, ConsumerChannel
from tests.support.statuses import snapshot

NOTICE = ExitNotice(Incarnation(0, 7), "crash", None, "SIGSEGV", "")
SNAPSHOT = snapshot(1.0)


class Wire:
    """One consumer that has read all but `pending_bytes`."""

    def __init__(self, pending_bytes: int = 0) -> None:
        self.pending_bytes = pending_bytes
        self.sent: list[Frame] = []

    def send(self, *frames: Frame) -> None:
        self.sent += frames


@pytest.fixture
def channel() -> ConsumerChannel:
    return ConsumerChannel()


def opened(channel: ConsumerChannel, pending_bytes: int = 0) -> Any:
    wire: Any = Wire(pending_bytes)
    channel.open(wire)
    return wire


def test_each_new_consumer_is_sent_the_exit_notices_that_are_owed(channel: ConsumerChannel) -> None:
    channel.owe(NOTICE)
    assert opened(channel).sent == [NOTICE]
    channel.close()
    assert opened(channel).sent == [NOTICE]
    assert channel.exit_notice_taken(NOTICE.worker)
    assert not channel.exit_notice_taken(NOTICE.worker), "it was confirmed before"
    channel.close()
    assert opened(channel).sent == []
    assert not channel.owes_exit_notices


def test_an_exit_notice_is_not_repeated_to_a_consumer_that_has_yet_to_read(channel: ConsumerChannel) -> None:
    wire = opened(channel, pending_bytes=1)
    channel.owe(NOTICE)
    channel.repeat_exit_notices(100.0)
    channel.repeat_exit_notices(100.0 + EXIT_NOTICE_AGAIN_S)
    assert wire.sent == [NOTICE]
    wire.pending_bytes = 0
    channel.repeat_exit_notices(100.0 + 2 * EXIT_NOTICE_AGAIN_S)
    assert wire.sent == [NOTICE, NOTICE]


def test_nothing_is_due_once_all_exit_notices_are_confirmed(channel: ConsumerChannel) -> None:
    channel.owe(NOTICE)
    channel.repeat_exit_notices(100.0)
    assert channel.due_s == 100.0 + EXIT_NOTICE_AGAIN_S
    channel.exit_notice_taken(NOTICE.worker)
    channel.repeat_exit_notices(100.1)
    assert channel.due_s == float("inf")


def test_what_was_drained_is_known_until_the_next_consumer_and_a_snapshot_until_the_end(
    channel: ConsumerChannel,
) -> None:
    opened(channel)
    channel.reported(SNAPSHOT)
    channel.reported(drained := Drained(1, 2, []))
    channel.close()
    assert (channel.snapshot, channel.drained) == (None, drained)
    opened(channel)
    assert channel.drained is None


def test_an_answer_reaches_the_inquiry_with_its_number_unless_that_was_cancelled(channel: ConsumerChannel) -> None:
    heard: list[tuple[str, Found]] = []
    first = channel.inquire(lambda answer: heard.append(("first", answer)), lambda number: Find(number, "m"))
    second = channel.inquire(lambda answer: heard.append(("second", answer)), lambda number: Find(number, "m"))
    channel.cancel_inquiry(first)
    for number in (first, second, second):
        channel.answered(Found(number, [], ""))
    assert heard == [("second", Found(second, [], ""))]


def test_the_late_answer_to_a_cancelled_inquiry_is_not_taken_for_that_to_the_next(channel: ConsumerChannel) -> None:
    heard: list[Found] = []
    first = channel.inquire(heard.append, lambda number: Find(number, "m"))
    channel.cancel_inquiry(first)
    channel.inquire(heard.append, lambda number: Find(number, "m"))
    channel.answered(Found(first, [], ""))
    assert heard == []


def test_dead_letters_are_taken_once(channel: ConsumerChannel) -> None:
    channel.reported(letters := Letters([], 1))
    assert channel.take(Letters) == [letters]
    assert channel.take(Letters) == []
