"""A pika connection that decodes complete deliveries itself, at a third of pika's cost.

Runs in the consumer and the command line. pika stays the owner of connection, channels, heartbeats and errors: every
frame that is not part of a complete delivery for a DeliveryCallback goes to it, in order, as without this file.
It must never take a delivery that pika would treat in another way, nor decode one to anything else.
Which private names of pika this builds on, and what guards them: docs/decisions/0008-receiving.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pika
import pika.channel
import pika.spec

from supervisor.brokers.amqp.messages import decode, to_properties
from supervisor.brokers.amqp.tables import decode_short_string
from supervisor.messages.message import Properties

READ_BYTES = 64 * 1024
"""The size of one read: sixteen times pika's 4096, and below malloc's mmap threshold (mallopt(3))."""

_FRAME = struct.Struct(">BHI")
"""How every frame begins: type, channel, size of its payload. One octet follows the payload."""

_FRAME_EXTRA = _FRAME.size + 1
_METHOD, _HEADER, _BODY = pika.spec.FRAME_METHOD, pika.spec.FRAME_HEADER, pika.spec.FRAME_BODY
_END = pika.spec.FRAME_END

_DELIVER = struct.pack(">I", pika.spec.Basic.Deliver.INDEX)
_TAG = struct.Struct(">QB")
"""Within a Basic.Deliver: delivery tag, and a bit that says redelivered."""

_CONTENT = struct.Struct(">IHHQH")
"""A header frame from the size of its payload on: class, weight, size of the body, which properties there are."""

_TYPE_AND_CHANNEL_BYTES = 3
_LEAST_CONTENT_BYTES = 14
_BASIC = pika.spec.Basic.INDEX
_MORE_FLAGS = 1

Take = Callable[[int, str, str, bool, Properties, bytes], None]
"""Is given delivery tag, exchange, routing key, redelivered, properties, body."""


class DeliveryCallback:
    """A consumer's callback for `basic_consume`: `take` gets every delivery, whichever way it came."""

    def __init__(self, take: Take) -> None:
        self.take = take

    def __call__(
        self,
        _channel: pika.channel.Channel,
        method: pika.spec.Basic.Deliver,
        properties: pika.spec.BasicProperties,
        body: bytes,
    ) -> None:
        """Called by pika for a delivery that it has decoded."""
        self.take(
            method.delivery_tag,
            method.exchange,
            method.routing_key,
            method.redelivered,
            to_properties(properties),
            body,
        )


class _Route(msgspec.Struct, frozen=True):
    """What is the same in one delivery after another: its method frame but for tag and redelivered.

    `head` are the bytes up to the tag, `tail` those behind the bit up to the channel of the header frame.
    """

    head: bytes
    tail: bytes
    channel: int
    consumer_tag: str
    exchange: str
    routing_key: str


_NOWHERE = _Route(b"\0", b"\0", 0, "", "", "")


class ReceivingConnection(pika.SelectConnection):  # type: ignore[misc]  # pika has no types
    """A SelectConnection whose DeliveryCallbacks get complete deliveries without pika's frame objects."""

    _frame_buffer: bytes
    _route = _NOWHERE

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = READ_BYTES
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        """Frame by frame; pika itself keeps what is no complete frame yet, in its `_frame_buffer`."""
        data, self._frame_buffer = self._frame_buffer + data_in, b""
        at = 0
        while at < len(data):
            end = self._deliver(data, at) if data[at] == _METHOD else 0
            if not end:
                end = _end_of_frame(data, at)
                super()._on_data_available(data[at:end])
            at = end

    def _deliver(self, data: bytes, at: int) -> int:
        """Pass on the delivery that begins at `at`; returns its end, or 0 if pika must decode it."""
        route = self._route
        tag_at = at + len(route.head)
        if not (data.startswith(route.head, at) and data.startswith(route.tail, tag_at + _TAG.size)):
            new = _read_route(data, at)
            if new is None:
                return 0
            self._route = route = new
            tag_at = at + len(route.head)
        receiver = self._receiver(route)
        if receiver is None:
            return 0
        content = _read_content(data, tag_at + _TAG.size + len(route.tail), route.channel)
        if content is None:
            return 0
        properties, body, end = content
        self.frames_received += 3 if body else 2
        self.bytes_received += end - at
        tag, bits = _TAG.unpack_from(data, tag_at)
        receiver.take(tag, route.exchange, route.routing_key, bits & 1 != 0, properties, body)
        return end

    def _receiver(self, route: _Route) -> DeliveryCallback | None:
        """Whom pika would call, if it is a DeliveryCallback and nothing else is under way on the channel."""
        channel = self._channels.get(route.channel)
        if channel is None or route.consumer_tag in channel._cancelled:
            return None
        begun = channel._content_assembler
        if begun._method_frame is not None or begun._header_frame is not None:
            return None
        consumer = channel._consumers.get(route.consumer_tag)
        return consumer if isinstance(consumer, DeliveryCallback) else None


def _end_of_frame(data: bytes, at: int) -> int:
    """Behind the frame at `at`, or behind the data if it is not complete (or no frame at all, which pika finds)."""
    if len(data) - at < _FRAME.size:
        return len(data)
    _kind, _channel, size = _FRAME.unpack_from(data, at)
    end: int = at + size + _FRAME_EXTRA
    return min(len(data), end)


def _read_route(data: bytes, at: int) -> _Route | None:
    """From a method frame, if it is a complete Basic.Deliver, and the beginning of its header frame; else None."""
    end = _end_of_frame(data, at)
    rest = end + _TYPE_AND_CHANNEL_BYTES
    if rest > len(data) or data[end - 1] != _END:
        return None
    if not data.startswith(_DELIVER, at + _FRAME.size) or data[end:rest] != bytes([_HEADER]) + data[at + 1 : at + 3]:
        return None
    frame = data[at : end - 1]
    try:
        consumer_tag, tag_at = decode_short_string(frame, _FRAME.size + len(_DELIVER))
        exchange, key_at = decode_short_string(frame, tag_at + _TAG.size)
        routing_key, _ = decode_short_string(frame, key_at)
    except IndexError:  # cut short: pika says so in its own words
        return None
    head, tail = frame[:tag_at], data[at + tag_at + _TAG.size : rest]
    return _Route(head, tail, _FRAME.unpack_from(frame)[1], consumer_tag, exchange, routing_key)


def _read_content(data: bytes, at: int, channel: int) -> tuple[Properties, bytes, int] | None:
    """Properties, body and where they end, if all is there and in at most one body frame; else None.

    `at` is behind type and channel of the header frame.
    """
    flags_end = at + _CONTENT.size
    if flags_end > len(data):
        return None
    size, class_id, _weight, body_size, flags = _CONTENT.unpack_from(data, at)
    body_at: int = at + 4 + size + 1
    end: int = body_at + body_size + _FRAME_EXTRA if body_size else body_at
    if end > len(data) or data[body_at - 1] != _END or data[end - 1] != _END:
        return None
    if class_id != _BASIC or size < _LEAST_CONTENT_BYTES or flags & _MORE_FLAGS:
        return None
    if body_size and _FRAME.unpack_from(data, body_at) != (_BODY, channel, body_size):
        return None
    return decode(flags, data[flags_end : body_at - 1]), data[body_at + _FRAME.size : end - 1], end
