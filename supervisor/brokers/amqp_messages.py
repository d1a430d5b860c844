"""Messages between pika's words and ours: basic properties both ways, and nothing that makes a copy impossible.

Runs in the consumer and the command line. A copy of a message must always come about, since its original is acked
only after it: what AMQP cannot say, or what does not fit into one frame, is left out and named in a header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec
import pika.data
import pika.exceptions
import pika.spec

from supervisor.brokers.amqp_tables import decode_short_string
from supervisor.message import Properties

NOTE_HEADER = "x-preforkd-note"
"""What a copy lacks of its original, for people."""

HEADER_ROOM_BYTES = 120_000
"""Most that the encoded properties may take: they must fit into one frame, of 128 KiB by RabbitMQ's default."""

_PERSISTENT = 2
_OCTET = struct.Struct("B")
_TIMESTAMP = struct.Struct(">Q")
_CANNOT = (
    *(ValueError, TypeError, OverflowError, RecursionError),
    *(AssertionError, AttributeError),  # how pika says that a property is not text
    *(struct.error, pika.exceptions.AMQPError),
)


_fields = attrgetter(*Properties.__struct_fields__)


def _read_octet(encoded: bytes, offset: int) -> tuple[int, int]:
    return _OCTET.unpack_from(encoded, offset)[0], offset + _OCTET.size


def _read_timestamp(encoded: bytes, offset: int) -> tuple[int, int]:
    return _TIMESTAMP.unpack_from(encoded, offset)[0], offset + _TIMESTAMP.size


_READERS: tuple[tuple[int, Callable[[bytes, int], tuple[Any, int]]], ...] = tuple(
    (
        getattr(pika.spec.BasicProperties, f"FLAG_{field.upper()}"),
        {
            "headers": pika.data.decode_table,
            "delivery_mode": _read_octet,
            "priority": _read_octet,
            "timestamp": _read_timestamp,
        }.get(field, decode_short_string),
    )
    for field in Properties.__struct_fields__
)
"""Each property's flag and reader, in their order on the wire, which is that of the fields."""


class EncodedProperties(pika.spec.BasicProperties):  # type: ignore[misc]  # pika has no types
    """Properties that were encoded already, so that publishing cannot fail on them; compares as its bytes."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.data = b"".join(pieces)

    def encode(self) -> list[bytes]:
        """What pika puts behind the header frame's own fields."""
        return [self.data]


def to_properties(properties: pika.spec.BasicProperties) -> Properties:
    """A delivered message's properties."""
    return Properties(*_fields(properties))


def decode(flags: int, encoded: bytes) -> Properties:
    """What pika's decoding and `to_properties` make of the same bytes, `flags` saying which properties they are."""
    values: list[Any] = []
    offset = 0
    for flag, read in _READERS:
        if flags & flag:
            value, offset = read(encoded, offset)
            values.append(value)
        else:
            values.append(None)
    return Properties(*values)


def encode(properties: Properties) -> EncodedProperties:
    """Ready to publish: always persistent, and without what AMQP cannot say (see NOTE_HEADER). Never fails."""
    properties = msgspec.structs.replace(properties, delivery_mode=_PERSISTENT)
    pieces = _pieces(properties)
    if pieces is None or sum(map(len, pieces)) > HEADER_ROOM_BYTES:
        pieces = _pieces(_reduced(properties))
    if pieces is None:
        raise AssertionError("properties reduced to what can be encoded must be encodable")
    return EncodedProperties(pieces)


def encoded(properties: pika.spec.BasicProperties) -> bytes:
    """The bytes of received properties, to compare with those of `encode()`."""
    return b"".join(properties.encode())


def _pieces(properties: Properties) -> list[bytes] | None:
    try:
        pieces: list[bytes] = pika.spec.BasicProperties(**msgspec.structs.asdict(properties)).encode()
    except _CANNOT:
        return None
    return pieces


def _reduced(properties: Properties) -> Properties:
    fields, headers, left_out = {}, {}, []
    for field, value in msgspec.structs.asdict(properties).items():
        if field == "headers" or _size({field: value}) is not None:
            fields[field] = value
        else:
            left_out.append(field)
    room = HEADER_ROOM_BYTES // 2
    for name, value in sorted((fields.pop("headers") or {}).items(), key=_small_first):
        size = _size({"headers": {name: value}})
        if size is None or size > room:
            left_out.append(f"header {str(name)[:80]!r}")
        else:
            headers[name] = value
            room -= size
    headers[NOTE_HEADER] = f"left out, AMQP cannot carry it: {', '.join(left_out)}"[:2000]
    return Properties(**fields, headers=headers)


def _small_first(item: tuple[str, Any]) -> int:
    return _size({"headers": dict([item])}) or 0


def _size(fields: dict[str, Any]) -> int | None:
    pieces = _pieces(Properties(**fields))
    return None if pieces is None else sum(map(len, pieces))
