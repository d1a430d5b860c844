"""The channel between two processes: whole frames in order, however the stream is cut, and a clear end."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.link import channel as channel_module
from supervisor.link.channel import (
    Channel,
    ChannelClosed,
    NotUnderstood,
    receive_with_descriptors,
    send_with_descriptors,
)
from supervisor.link.frames import Bye, Fork, Frame, Imported, Publish, Quit, Recall, Returned, Run, RunId
from supervisor.messages.message import Properties, Publication
from tests.support.waiting import eventually

Pair = tuple[socket.socket, socket.socket]
SPOKEN = Fork | Quit | Bye | Returned | Run | Publish | Recall


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def wire(frame: Frame) -> bytes:
    data = msgspec.msgpack.encode(frame)
    return struct.pack("<I", len(data)) + data


def run(body: bytes, headers: dict[str, Any] | None = None) -> Run:
    return Run(RunId(b"k" * 24, 1, 1), "id", Properties(headers=headers), body, "", "email", False, False)


def transfer(sender: Channel[Any], receiver: Channel[Any], count: int) -> list[Any]:
    """Move frames until `count` have arrived."""
    frames: list[Any] = []

    def arrived() -> bool:
        sender.flush()
        frames.extend(receiver.receive())
        return len(frames) >= count

    eventually(arrived, f"{count} frames arrive")
    return frames


def test_nothing_leaves_before_flush_and_then_everything_at_once(pair: Pair) -> None:
    sender, receiver = Channel[Any](pair[0], SPOKEN), Channel[Any](pair[1], SPOKEN)
    sender.send(Fork(1, 2), Quit())
    assert receiver.receive() == []
    assert sender.pending_bytes == len(wire(Fork(1, 2)) + wire(Quit()))
    assert sender.flush()
    assert sender.pending_bytes == 0
    assert receiver.receive() == [Fork(1, 2), Quit()]
    assert receiver.receive() == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=8), st.randoms(use_true_random=False))
def test_frames_arrive_whole_and_in_order_however_the_stream_is_cut(bodies: list[bytes], chance: random.Random) -> None:
    one, other = socket.socketpair()
    with one, other:
        receiver = Channel[Any](other, SPOKEN)
        stream, got = b"".join(wire(run(body)) for body in bodies), []
        while stream:
            cut = chance.randint(1, len(stream))
            one.sendall(stream[:cut])
            stream = stream[cut:]
            got += receiver.receive()
        assert [frame.body for frame in got] == bodies


def test_a_frame_larger_than_every_buffer_arrives_whole(pair: Pair) -> None:
    sender, receiver = Channel[Any](pair[0], SPOKEN), Channel[Any](pair[1], SPOKEN)
    body = os.urandom(1024) * 16 * 1024
    sender.send(run(body), Quit())
    assert not sender.flush()
    first, second = transfer(sender, receiver, 2)
    assert (first.body == body, second) == (True, Quit())


def test_many_small_frames_cost_the_same_each(pair: Pair) -> None:
    sender, receiver = Channel[Any](pair[0], SPOKEN), Channel[Any](pair[1], SPOKEN)
    frames = [Fork(number, number) for number in range(50_000)]
    sender.send(*frames)
    assert transfer(sender, receiver, len(frames)) == frames


def test_both_directions_are_independent(pair: Pair) -> None:
    one, other = Channel[Any](pair[0], SPOKEN), Channel[Any](pair[1], SPOKEN)
    one.send(Fork(1, 1))
    other.send(Bye("age"))
    assert one.flush()
    assert other.flush()
    assert one.receive() == [Bye("age")]
    assert other.receive() == [Fork(1, 1)]


def test_headers_keep_their_types_in_both_directions(pair: Pair) -> None:
    worker, consumer = Channel[Any](pair[0], SPOKEN), Channel[Any](pair[1], SPOKEN)
    headers = {"price": Decimal("9.99"), "at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\xff", "deep": [{"n": 1.0}]}
    consumer.send(run(b"", headers))
    assert consumer.flush()
    (frame,) = worker.receive()
    assert frame.properties.headers == headers
    worker.send(Publish(frame.run, [Publication("", "audit", frame.properties, b"")]))
    assert worker.flush()
    (publish,) = consumer.receive()
    assert publish.publications[0].properties.headers == headers


def test_a_closed_peer_is_told_after_its_last_frame(pair: Pair) -> None:
    receiver = Channel[Any](pair[1], SPOKEN)
    pair[0].sendall(wire(Quit()))
    pair[0].close()
    assert receiver.receive() == [Quit()]
    with pytest.raises(ChannelClosed, match="end of stream"):
        receiver.receive()


def test_a_frame_cut_off_by_death_is_not_delivered(pair: Pair) -> None:
    receiver = Channel[Any](pair[1], SPOKEN)
    pair[0].sendall(wire(Quit()) + wire(Fork(1, 1))[:-1])
    pair[0].close()
    assert receiver.receive() == [Quit()]
    with pytest.raises(ChannelClosed):
        receiver.receive()


def test_writing_to_a_closed_peer_is_told(pair: Pair) -> None:
    sender = Channel[Any](pair[0], SPOKEN)
    pair[1].close()
    sender.send(Quit())
    with pytest.raises(ChannelClosed, match="Broken pipe"):
        sender.flush()


def test_a_reader_that_does_not_read_never_blocks_the_writer(pair: Pair) -> None:
    sender, receiver = Channel[Any](pair[0], SPOKEN), Channel[Any](pair[1], SPOKEN)
    sender.send(*[run(bytes(10_000))] * 200)
    assert not sender.flush()
    assert not sender.flush()
    assert len(transfer(sender, receiver, 200)) == 200
    assert sender.flush()


def test_a_giant_length_is_refused_before_anything_is_kept(pair: Pair) -> None:
    receiver = Channel[Any](pair[1], SPOKEN)
    pair[0].sendall(struct.pack("<I", channel_module.MAX_FRAME_BYTES + 1))
    with pytest.raises(ChannelClosed, match="not preforkd"):
        receiver.receive()


@pytest.mark.parametrize("garbage", [b"\xc1", b"", b"\x93\xa4Fork\xa1x\x01", b"\x91\xa6Absent", b"\x00" * 40])
def test_what_is_no_frame_ends_the_channel(pair: Pair, garbage: bytes) -> None:
    receiver = Channel[Any](pair[1], SPOKEN)
    pair[0].sendall(struct.pack("<I", len(garbage)) + garbage)
    with pytest.raises(ChannelClosed, match="cannot be read"):
        receiver.receive()


def test_what_follows_whole_frames_and_is_none_is_told_by_the_next_look_though_nothing_more_came(pair: Pair) -> None:
    pair[1].sendall(wire(Quit()) + struct.pack("<I", 1) + b"\xc1")
    receiver = Channel[Any](pair[0], SPOKEN)

    assert receiver.receive() == [Quit()]
    with pytest.raises(NotUnderstood, match="cannot be read"):
        receiver.receive()


def test_a_word_of_another_language_ends_the_channel(pair: Pair) -> None:
    receiver = Channel[Any](pair[1], Fork | Quit)
    pair[0].sendall(wire(Imported(1.0)))
    with pytest.raises(ChannelClosed, match="cannot be read"):
        receiver.receive()


# ---- the first frame ----------------------------------------------------------------------------------------------


def test_a_first_frame_brings_its_descriptors_close_on_exec(pair: Pair) -> None:
    read_end, write_end = os.pipe()
    send_with_descriptors(pair[0], Fork(3, 7), [write_end])
    os.close(write_end)
    frame, (received,) = receive_with_descriptors(pair[1], Fork, 1)
    assert frame == Fork(3, 7)
    assert not os.get_inheritable(received)
    os.write(received, b"through")
    os.close(received)
    assert os.read(read_end, 100) == b"through"
    assert os.read(read_end, 1) == b""
    os.close(read_end)


class ShortOfMemory(socket.socket):
    """A socket on which the next sends fail as they do when the kernel has no memory."""

    errors: list[int]

    def send(self, *arguments: Any) -> int:
        if self.errors:
            raise OSError(self.errors.pop(), "no memory")
        return super().send(*arguments)


def test_a_frame_that_meets_a_kernel_without_memory_is_sent_later(pair: Pair) -> None:
    with ShortOfMemory(fileno=os.dup(pair[0].fileno())) as short:
        short.errors = [errno.ENOMEM, errno.ENOBUFS]
        sender, receiver = Channel[Any](short, SPOKEN), Channel[Any](pair[1], SPOKEN)
        sender.send(Quit())
        assert [sender.flush() for _ in range(3)] == [False, False, True]
        assert receiver.receive() == [Quit()]
        short.errors = [errno.EPIPE]
        sender.send(Quit())
        with pytest.raises(ChannelClosed):
            sender.flush()


def test_a_large_first_frame_arrives_whole_and_what_follows_stays_for_the_channel(pair: Pair) -> None:
    message = run(bytes(3_000_000))
    with open(os.devnull) as file:
        sender = threading.Thread(target=send_with_descriptors, args=(pair[0], message, [file.fileno()]))
        sender.start()
        frame, (received,) = receive_with_descriptors(pair[1], Run, 1)
        sender.join()
    os.close(received)
    assert frame == message
    later = Channel[Any](pair[0], SPOKEN)
    later.send(Quit())
    assert later.flush()
    assert Channel[Any](pair[1], SPOKEN).receive() == [Quit()]


def test_a_first_frame_from_a_sender_that_died_is_told(pair: Pair) -> None:
    pair[0].sendall(wire(Fork(3, 7))[:-1])
    pair[0].close()
    with pytest.raises(ChannelClosed, match="within the first frame"):
        receive_with_descriptors(pair[1], Fork, 0)
    one, other = socket.socketpair()
    one.close()
    with other, pytest.raises(ChannelClosed, match="before the first frame"):
        receive_with_descriptors(other, Fork, 1)


def test_a_first_frame_without_its_descriptors_is_refused(pair: Pair) -> None:
    pair[0].sendall(wire(Fork(3, 7)))
    with pytest.raises(ChannelClosed, match="0 descriptors instead of 1"):
        receive_with_descriptors(pair[1], Fork, 1)


@pytest.mark.parametrize("data", [wire(Quit()), struct.pack("<I", 2**32 - 1)], ids=["another frame", "giant"])
def test_a_first_frame_that_is_not_the_expected_one_is_refused(pair: Pair, data: bytes) -> None:
    pair[0].sendall(data)
    with pytest.raises(ChannelClosed):
        receive_with_descriptors(pair[1], Fork, 0)
