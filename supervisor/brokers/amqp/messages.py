"""Converts basic properties between pika and preforkd, without errors that would make a copy impossible.

Runs in the consumer and the command line. A copy of a message must always come about, since its original is acked
only after it: what AMQP cannot say, or what does not fit into one frame, is left out and named in a header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import pika.data
import pika.exceptions
import pika.spec

from supervisor.brokers.amqp.tables import decode_short_string, decode_table
from supervisor.brokers.copy_headers import FORMER, QUEUE
from supervisor.messages.message import PROPERTIES_ROOM_BYTES, Properties

NOTE_HEADER = "x-preforkd-note"
"""What a copy lacks of its original, for people."""

_FRAME_EXTRA_BYTES = 22
"""What the frame of properties holds besides them: its own head and end (8), class, weight, size of the body (14)."""

_PERSISTENT = 2
_REMEMBERED_FLAGS = 256
"""Messages of one publisher have the same properties, one after another."""

_OCTET = struct.Struct("B")
_TIMESTAMP = struct.Struct(">Q")
CANNOT_ENCODE = (
    *(ValueError, TypeError, OverflowError, RecursionError),
    *(AssertionError, AttributeError),  # how pika says that a property is not text
    *(struct.error, pika.exceptions.AMQPError),
)


_fields = attrgetter(*Properties.__struct_fields__)


def _read_octet(encoded: bytes, offset: int) -> tuple[int, int]:
    return _OCTET.unpack_from(encoded, offset)[0], offset + _OCTET.size


def _read_timestamp(encoded: bytes, offset: int) -> tuple[int, int]:
    return _TIMESTAMP.unpack_from(encoded, offset)[0], offset + _TIMESTAMP.size


_Reader = Callable[[bytes, int], tuple[Any, int]]

_READERS: tuple[tuple[int, _Reader], ...] = tuple(
    (
        getattr(pika.spec.BasicProperties, f"FLAG_{field.upper()}"),
        {
            "headers": decode_table,
            "delivery_mode": _read_octet,
            "priority": _read_octet,
            "timestamp": _read_timestamp,
        }.get(field, decode_short_string),
    )
    for field in Properties.__struct_fields__
)
"""Each property's flag and reader, in their order on the wire, which is that of the fields."""


class EncodedProperties(pika.spec.BasicProperties):  # type: ignore[misc]  # pika has no types
    """Encoded properties, on which publishing cannot fail. `data`: their bytes, by which they compare."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def encode(self) -> list[bytes]:
        """The bytes behind the header frame's own fields, for pika."""
        return [self.data]


def to_properties(properties: pika.spec.BasicProperties) -> Properties:
    """A delivered message's properties."""
    return Properties(*_fields(properties))


def decode(flags: int, encoded: bytes) -> Properties:
    """The properties in `encoded`, as pika and `to_properties` would decode them; `flags`: the property flags."""
    values: list[Any] = [None] * len(_READERS)
    offset = 0
    for place, read in _readers(flags):
        values[place], offset = read(encoded, offset)
    return Properties(*values)


@lru_cache(_REMEMBERED_FLAGS)
def _readers(flags: int) -> tuple[tuple[int, _Reader], ...]:
    """Of the properties that there are, in their order on the wire: place among the fields, and reader."""
    return tuple((place, read) for place, (flag, read) in enumerate(_READERS) if flags & flag)


def encode(properties: Properties, room_bytes: int = PROPERTIES_ROOM_BYTES) -> EncodedProperties:
    """Encoded for publishing: always persistent, without values that AMQP cannot carry (see NOTE_HEADER).

    `room_bytes`: their maximal size; headers beyond it are left out and named. Raises AssertionError only for a bug.
    """
    properties = msgspec.structs.replace(properties, delivery_mode=_PERSISTENT)
    for attempt in (properties, *_without_former(properties)):
        data = _data(attempt)
        if data is not None and len(data) <= room_bytes:
            return EncodedProperties(data)
    data = _data(_reduced(properties, room_bytes // 2))
    if data is None:
        raise AssertionError("properties reduced to what can be encoded must be encodable")
    return EncodedProperties(data)


def fitted(properties: Properties, whole: EncodedProperties, frame_max: int) -> EncodedProperties:
    """`whole`, which is `properties` encoded, if a frame of this connection holds it (`frame_max` bytes; 0: any).

    A copy is reduced until it does, since its original is acked for it. Raises ValueError for anything else.
    """
    room_bytes = frame_max - _FRAME_EXTRA_BYTES
    if not frame_max or len(whole.data) <= room_bytes:
        return whole
    if QUEUE in (properties.headers or {}):
        return encode(properties, room_bytes)
    raise ValueError(
        f"its properties and headers take {len(whole.data)} bytes, and one frame of this connection holds {room_bytes}:"
        " send less in headers, or raise frame_max in rabbitmq.conf"
    )


def encoded(properties: pika.spec.BasicProperties) -> bytes:
    """The bytes of pika's properties, to compare with those of `encode()`."""
    return b"".join(properties.encode())


def _data(properties: Properties) -> bytes | None:
    try:
        return encoded(pika.spec.BasicProperties(**msgspec.structs.asdict(properties)))
    except CANNOT_ENCODE:
        return None


def _without_former(properties: Properties) -> Iterator[Properties]:
    """Without what is told of former rounds, where anything is: the message's own headers come first."""
    headers = dict(properties.headers or {})
    if headers.pop(FORMER, None) is not None:
        headers[NOTE_HEADER] = _note([_named(FORMER)])
        yield msgspec.structs.replace(properties, headers=headers)


def _reduced(properties: Properties, room: int) -> Properties:
    fields, headers, left_out = {}, {}, []
    for field, value in msgspec.structs.asdict(properties).items():
        if field == "headers" or _size({field: value}) is not None:
            fields[field] = value
        else:
            left_out.append(field)
    for name, value in sorted((fields.pop("headers") or {}).items(), key=_small_first):
        size = _size({"headers": {name: value}})
        if size is None or size > room or name == FORMER:
            left_out.append(_named(name))
        else:
            headers[name] = value
            room -= size
    headers[NOTE_HEADER] = _note(left_out)[: min(2000, room // 4)]
    return Properties(**fields, headers=headers)


def _named(header: Any) -> str:
    return f"header {str(header)[:80]!r}"


def _note(left_out: list[str]) -> str:
    return f"left out, AMQP cannot carry it: {', '.join(left_out)}"


def _small_first(item: tuple[str, Any]) -> int:
    return _size({"headers": dict([item])}) or 0


def _size(fields: dict[str, Any]) -> int | None:
    data = _data(Properties(**fields))
    return None if data is None else len(data)
