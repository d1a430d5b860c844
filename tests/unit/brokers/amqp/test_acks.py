"""The ack batcher against a model of RabbitMQ's channel, which closes (406) on any tag that is settled twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.brokers.amqp.acks import STRAGGLER_S, AckBatcher, AckFrame, How


class ModelChannel:
    """What the broker does with the frames: raises where it would close the channel."""

    def __init__(self) -> None:
        self.unsettled: set[int] = set()
        self.acked: set[int] = set()
        self.returned: set[int] = set()

    def receive(self, frames: list[AckFrame]) -> None:
        for frame in frames:
            if frame.tag not in self.unsettled:
                raise AssertionError(f"406 unknown delivery tag {frame.tag}")
            below = {tag for tag in self.unsettled if tag <= frame.tag}
            settled = below if frame.how is How.ACK_UP_TO else {frame.tag}
            self.unsettled -= settled
            (self.returned if frame.how is How.RETURN else self.acked).update(settled)


def _batcher(*tags: int) -> AckBatcher:
    batcher = AckBatcher()
    for tag in tags:
        batcher.delivered(tag)
    return batcher


def test_a_run_from_the_bottom_is_one_multiple_ack() -> None:
    batcher = _batcher(1, 2, 3, 4)
    for tag in (3, 1, 2):
        batcher.ack(tag)

    assert batcher.take(0.0) == [AckFrame(How.ACK_UP_TO, 3)]


def test_one_ack_is_not_multiple() -> None:
    batcher = _batcher(1, 2)
    batcher.ack(1)

    assert batcher.take(0.0) == [AckFrame(How.ACK, 1)]


def test_an_ack_above_a_gap_waits_then_goes_alone() -> None:
    batcher = _batcher(1, 2, 3)
    batcher.ack(3)

    assert batcher.take(0.0) == []
    assert batcher.take(STRAGGLER_S / 2) == []
    assert batcher.waiting
    assert batcher.take(STRAGGLER_S) == [AckFrame(How.ACK, 3)]
    assert not batcher.waiting


def test_an_ack_above_a_gap_joins_the_run_when_the_gap_closes() -> None:
    batcher = _batcher(1, 2)
    batcher.ack(2)
    batcher.take(0.0)
    batcher.ack(1)

    assert batcher.take(0.001) == [AckFrame(How.ACK_UP_TO, 2)]


def test_nothing_is_held_back_at_the_end() -> None:
    batcher = _batcher(1, 2, 3)
    batcher.ack(3)

    assert batcher.take(0.0, everything=True) == [AckFrame(How.ACK, 3)]


def test_returns_go_before_the_multiple_ack_that_would_swallow_them() -> None:
    batcher = _batcher(1, 2, 3)
    batcher.ack(1)
    batcher.requeue(2)
    batcher.ack(3)

    assert batcher.take(0.0) == [AckFrame(How.RETURN, 2), AckFrame(How.ACK_UP_TO, 3)]


def test_a_straggler_that_went_alone_is_not_named_again() -> None:
    batcher = _batcher(1, 2)
    batcher.ack(2)
    batcher.take(0.0)
    batcher.take(1.0)
    batcher.ack(1)

    assert batcher.take(1.0) == [AckFrame(How.ACK, 1)]


def test_a_tag_that_was_not_delivered_is_ignored() -> None:
    batcher = _batcher(1)
    batcher.ack(7)
    batcher.requeue(8)

    assert batcher.take(1.0) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.just(0)),
        st.tuples(st.sampled_from(["ack", "give_back"]), st.integers(1, 30)),
        st.tuples(st.just("take"), st.integers(0, 2)),
    ),
    max_size=120,
)


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_every_tag_is_settled_as_asked_and_never_twice(steps: list[tuple[str, int]]) -> None:
    batcher, channel = AckBatcher(), ModelChannel()
    wanted: dict[int, str] = {}
    delivered, now_s = 0, 0.0
    for step, number in steps:
        if step == "deliver":
            delivered += 1
            batcher.delivered(delivered)
            channel.unsettled.add(delivered)
        elif step == "take":
            now_s += number * STRAGGLER_S
            channel.receive(batcher.take(now_s))
            assert channel.acked <= {tag for tag, how in wanted.items() if how == "ack"}
        else:
            if number <= delivered:
                wanted.setdefault(number, step)
            if step == "ack":
                batcher.ack(number)
            else:
                batcher.requeue(number)
    channel.receive(batcher.take(now_s, everything=True))

    assert channel.acked == {tag for tag, how in wanted.items() if how == "ack"}
    assert channel.returned == {tag for tag, how in wanted.items() if how == "give_back"}
    assert not batcher.waiting
