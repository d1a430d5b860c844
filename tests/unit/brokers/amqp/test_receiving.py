"""Deliveries taken from the bytes themselves are those that pika makes of them: content, order, counters, errors.

PREFORKD_SOAK=<number> draws fifty times as many streams.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import Any

import pika
import pika.frame
import pika.spec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika.adapters.utils.io_services_utils import _AsyncTransportBase

from supervisor.brokers.amqp.receiving import READ_BYTES, ReceivingConnection
from supervisor.messages.message import Properties
from tests.support.amqp_wire import CHANNELS, OTHER, OURS, PLAIN, Wire, content, method, wires

TIMES = 50 if os.environ.get("PREFORKD_SOAK") else 1

SHORT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
OCTET = st.integers(0, 255)
SCALARS = st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | SHORT | st.binary(max_size=9)
VALUES = st.recursive(
    st.none() | SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3)
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "headers": st.dictionaries(SHORT, VALUES, max_size=4),
    "delivery_mode": OCTET,
    "priority": OCTET,
    "timestamp": st.integers(0, 2**64 - 1),
}
PROPERTIES = st.builds(
    Properties, **{name: st.none() | FIELDS.get(name, SHORT) for name in Properties.__struct_fields__}
)
KEYS = st.sampled_from(["", "queue", "a.b", "ü", "x" * 100])


@st.composite
def deliveries(draw: st.DrawFn, channel: int, tags: tuple[str, ...] = (OURS, OURS, OURS, PLAIN, OTHER)) -> list[bytes]:
    """A message's frames, for whom ever."""
    deliver = pika.spec.Basic.Deliver(
        draw(st.sampled_from(tags)), draw(st.integers(1, 2**64 - 1)), draw(st.booleans()), draw(KEYS), draw(KEYS)
    )
    body = draw(st.binary(max_size=60))
    return [method(channel, deliver), *content(channel, draw(PROPERTIES), body, draw(st.integers(10, 80)))]


@st.composite
def returns(draw: st.DrawFn, channel: int) -> list[bytes]:
    """A returned message: content that is no delivery."""
    what = pika.spec.Basic.Return(312, "NO_ROUTE", "", draw(KEYS))
    return [method(channel, what), *content(channel, draw(PROPERTIES), draw(st.binary(max_size=30)))]


def methods(channel: int) -> st.SearchStrategy[list[bytes]]:
    """Single frames, among them those that end a consumer or the channel."""
    return st.sampled_from(
        [
            [method(channel, pika.spec.Basic.Cancel(OURS))],
            [method(channel, pika.spec.Basic.CancelOk(OURS))],
            [method(channel, pika.spec.Basic.Ack(1))],
            [method(channel, pika.spec.Channel.Flow(True))],
            [method(channel, pika.spec.Channel.Close(404, "gone", 0, 0))],
        ]
    )


def frames_of(channel: int) -> st.SearchStrategy[list[bytes]]:
    """What one channel brings, in its order."""
    usual = deliveries(channel)
    some = st.lists(st.one_of(usual, usual, usual, returns(channel), methods(channel)), max_size=6)
    return some.map(lambda messages: [frame for message in messages for frame in message])


HEARTBEATS = st.lists(st.just(pika.frame.Heartbeat().marshal()), max_size=3)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The frames of all channels, mixed as AMQP allows: each channel's in their order."""
    queues = [draw(frames_of(channel)) for channel in CHANNELS] + [draw(HEARTBEATS)]
    mixed: list[bytes] = []
    while left := [queue for queue in queues if queue]:
        queue = draw(st.sampled_from(left))
        run = draw(st.integers(1, 6))
        mixed += queue[:run]
        del queue[:run]
    return mixed


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces, none of them empty."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@settings(deadline=None, max_examples=50 * TIMES)
@given(streams(), CUTS, st.integers(-1, 4))
def test_whatever_comes_in_whatever_pieces_is_what_pika_makes_of_it(
    frames: list[bytes], cuts: list[int], cancel_at: int
) -> None:
    with wires(pika.SelectConnection, ReceivingConnection) as (theirs, ours):
        theirs.cancel_at = ours.cancel_at = cancel_at
        for piece in cut(b"".join(frames), cuts):
            theirs.receive(piece)
            ours.receive(piece)

            assert ours.seen() == theirs.seen()


def received(wire: Wire, pieces: list[bytes]) -> str:
    """The kind of error that ends the connection."""
    try:
        for piece in pieces:
            wire.receive(piece)
    except Exception as error:  # whatever damaged bytes make of pika
        return type(error).__name__
    return "none"


def ended_alike(pieces: list[bytes]) -> None:
    """Both ways the same deliveries, then the same error."""
    with wires(pika.SelectConnection, ReceivingConnection) as (theirs, ours):
        assert received(ours, pieces) == received(theirs, pieces)
        assert repr(ours.taken) == repr(theirs.taken)  # a damaged number may be NaN, which equals nothing


FEW = st.lists(deliveries(1, (OURS,)), min_size=2, max_size=4)
DAMAGES = st.lists(st.tuples(st.integers(0, 10_000), OCTET), min_size=1, max_size=3)


@settings(deadline=None, max_examples=80 * TIMES)
@given(FEW, DAMAGES, CUTS)
def test_damaged_bytes_end_as_they_end_in_pika(
    messages: list[list[bytes]], damages: list[tuple[int, int]], cuts: list[int]
) -> None:
    data = bytearray(b"".join(frame for message in messages for frame in message))
    for place, octet in damages:
        data[place % len(data)] = octet

    ended_alike(cut(bytes(data), cuts))


@settings(deadline=None, max_examples=40 * TIMES)
@given(FEW, st.lists(st.integers(0, 100), min_size=1, max_size=3))
def test_missing_frames_end_as_they_end_in_pika(messages: list[list[bytes]], missing: list[int]) -> None:
    frames = [frame for message in messages for frame in message]
    for place in missing:
        del frames[place % len(frames) : place % len(frames) + 1]

    ended_alike([b"".join(frames) + plenty(2, b"whole")])


def test_a_header_frame_without_flags_ends_as_it_ends_in_pika() -> None:
    header = struct.pack(">BHIHHQB", 2, 1, 12, 60, 0, 0, 0xCE)
    deliver = method(1, pika.spec.Basic.Deliver(OURS, 1, False, "", "queue"))

    ended_alike([deliver + header + pika.frame.Heartbeat().marshal()])


def test_a_delivery_inside_of_another_ends_as_it_ends_in_pika() -> None:
    deliver, header, body = [
        method(1, pika.spec.Basic.Deliver(OURS, 1, False, "", "queue")),
        *content(1, Properties(), b"begun"),
    ]

    ended_alike([deliver + plenty(1, b"whole") + header + body])
    ended_alike([deliver + header + plenty(1, b"whole") + body])
    ended_alike([header + plenty(1, b"whole") + body])


def plenty(count: int, body: bytes, key: str = "queue") -> bytes:
    """Deliveries for a DeliveryCallback."""
    return b"".join(
        method(1, pika.spec.Basic.Deliver(OURS, tag, False, "", key))
        + b"".join(content(1, Properties(message_id=f"m{tag}", delivery_mode=2), body))
        for tag in range(1, count + 1)
    )


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 65536, b"x" * 131_064])
def test_complete_deliveries_do_not_go_through_pika(body: bytes) -> None:
    with wires(ReceivingConnection) as [wire]:
        wire.receive(plenty(3, body))

        assert [taken[2] for taken in wire.taken] == [1, 2, 3]
        assert wire.through_pika == 0


def test_a_delivery_cut_in_two_goes_through_pika_and_the_next_one_does_not() -> None:
    data = plenty(3, b"body")
    with wires(ReceivingConnection) as [wire]:
        for piece in (data[:-20], data[-20:] + plenty(2, b"body")):
            wire.receive(piece)

        assert [taken[2] for taken in wire.taken] == [1, 2, 3, 1, 2]
        assert wire.through_pika == 1


def test_a_body_of_several_frames_is_joined_by_pika() -> None:
    body = bytes(range(256)) * 1200
    with wires(ReceivingConnection) as [wire]:
        wire.receive(plenty(1, body))

        assert wire.taken[0][-1] == body
        assert wire.through_pika == 1


def test_another_route_is_not_taken_for_the_last_one() -> None:
    with wires(ReceivingConnection) as [wire]:
        wire.receive(plenty(1, b"1", "red") + plenty(1, b"2", "tea") + plenty(1, b"3", "red"))

        assert [(taken[4], taken[-1]) for taken in wire.taken] == [("red", b"1"), ("tea", b"2"), ("red", b"3")]


def test_a_delivery_after_our_cancel_is_rejected_by_pika() -> None:
    with wires(ReceivingConnection) as [wire]:
        wire.cancel_at = 1
        wire.receive(plenty(2, b"body"))

        assert [taken[2] for taken in wire.taken] == [1]
        assert wire.transport.written.endswith(method(1, pika.spec.Basic.Reject(2, True)))


# ---- what is relied upon (docs/decisions/0008-receiving.md) ---------------------------------------------------------


def test_pika_reads_as_much_as_its_transport_says() -> None:
    assert _AsyncTransportBase._MAX_RECV_BYTES < READ_BYTES
    assert "_MAX_RECV_BYTES" in _AsyncTransportBase._consume.__code__.co_names
    with wires(ReceivingConnection) as [wire]:
        assert vars(wire.transport)["_MAX_RECV_BYTES"] == READ_BYTES


def test_pika_watches_no_basic_deliver() -> None:
    with wires(ReceivingConnection) as [wire]:
        assert wire.connection.callbacks.pending(1, pika.spec.Basic.Deliver) is None
