"""AMQP field tables without loss: a decoder that replaces pika's (1.4.4), and an encoder that extends it.

Runs in the consumer and the command line. pika cuts floats to integers when it decodes, cannot encode them, drops a
Decimal's trailing zeros, and raises out of the connection on timestamps beyond the year 9999: one odd message would
take the consumer down for ever. So decoding here never fails on what RabbitMQ lets through: a table that cannot be
read, or is nested too deeply to be handled anywhere, becomes `UnreadableHeaders`.
Wire format: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3 (the kinds that RabbitMQ and its clients use).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika.data
import pika.exceptions

from supervisor.messages.message import UnreadableHeaders

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_DECIMAL = struct.Struct(">Bi")

DEEPEST = 100
"""Deepest nesting of tables and arrays: all code behind here, user code included, handles them by recursion."""

_UNREADABLE = (ValueError, ArithmeticError, IndexError, RecursionError, struct.error, pika.exceptions.AMQPError)
"""Errors that decoding raises on bytes that are no field table, or on a table that is too large or too deep."""

_NUMBERS = {
    pair[:1].encode(): struct.Struct(f">{pair[1:]}")
    for pair in ("t?", "bb", "BB", "sh", "Uh", "uH", "Ii", "iI", "lq", "Lq", "ff", "dd")
}
"""Kinds of a fixed size that struct reads as they are, each with its format."""


def install() -> None:
    """Make pika use this codec. Harmless when called again; every way to a connection calls it first."""
    pika.data.decode_table = decode_table
    pika.data.decode_value = decode_value
    pika.data.encode_value = encode_value
    pika.data.decode_short_string = decode_short_string


# ---- decoding -----------------------------------------------------------------------------------------------------


def decode_table(encoded: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """The field table in `encoded` at `offset`, and the offset behind it. Raises as `decode_value` if it is cut."""
    try:
        return _decode_table(encoded, offset)
    except _UNREADABLE as error:
        end = offset + 4 + _U32.unpack_from(encoded, offset)[0]
        if end > len(encoded):
            raise
        reason = str(error) or type(error).__name__
        return UnreadableHeaders(encoded[offset:end], f"its headers cannot be read: {reason}"), end


def decode_value(encoded: bytes, offset: int, depth: int = 0) -> tuple[Any, int]:
    """The field value in `encoded` at `offset`, and the offset behind it; `depth`: the number of enclosing tables.

    Raises InvalidFieldTypeException on unknown kinds, ValueError on one that is nested too deeply.
    """
    kind = encoded[offset : offset + 1]
    number = _NUMBERS.get(kind)
    if number is not None:
        return number.unpack_from(encoded, offset + 1)[0], offset + 1 + number.size
    decode = _DECODERS.get(kind)
    if decode is not None:
        return decode(encoded, offset + 1)
    decode_all = _CONTAINERS.get(kind)
    if decode_all is None:
        raise pika.exceptions.InvalidFieldTypeException(f"there is no kind {kind!r}")
    if depth >= DEEPEST:
        raise ValueError(f"tables and arrays are nested more than {DEEPEST} deep")
    return decode_all(encoded, offset + 1, depth + 1)


def decode_short_string(encoded: bytes, offset: int) -> tuple[str, int]:
    """The short string in `encoded` at `offset`, as text (invalid bytes as `\\xff`), and the offset behind it."""
    end = offset + 1 + encoded[offset]
    return encoded[offset + 1 : end].decode("utf-8", "backslashreplace"), end


def _decode_bytes(encoded: bytes, offset: int) -> tuple[bytes, int]:
    start = offset + 4
    end = start + _U32.unpack_from(encoded, offset)[0]
    return encoded[start:end], end


def _decode_text(encoded: bytes, offset: int) -> tuple[str | bytes, int]:
    data, end = _decode_bytes(encoded, offset)
    try:
        return data.decode(), end
    except UnicodeDecodeError:
        return data, end


def _decode_decimal(encoded: bytes, offset: int) -> tuple[Decimal, int]:
    scale, unscaled = _DECIMAL.unpack_from(encoded, offset)
    return Decimal(unscaled).scaleb(-scale), offset + _DECIMAL.size


def _decode_time(encoded: bytes, offset: int) -> tuple[datetime | int, int]:
    seconds: int = _U64.unpack_from(encoded, offset)[0]
    try:
        return datetime.fromtimestamp(seconds, UTC), offset + 8
    except (ValueError, OverflowError, OSError):  # milliseconds by mistake, mostly: the number says more than a crash
        return seconds, offset + 8


def _decode_list(encoded: bytes, offset: int, depth: int) -> tuple[list[Any], int]:
    end = offset + 4 + _U32.unpack_from(encoded, offset)[0]
    offset += 4
    values = []
    while offset < end:
        value, offset = decode_value(encoded, offset, depth)
        values.append(value)
    return values, end


def _decode_table(encoded: bytes, offset: int, depth: int = 0) -> tuple[dict[str, Any], int]:
    end = offset + 4 + _U32.unpack_from(encoded, offset)[0]
    offset += 4
    table = {}
    while offset < end:
        name, offset = decode_short_string(encoded, offset)
        table[name], offset = decode_value(encoded, offset, depth)
    return table, end


_DECODERS: dict[bytes, Callable[[bytes, int], tuple[Any, int]]] = {
    b"S": _decode_text,
    b"x": _decode_bytes,
    b"D": _decode_decimal,
    b"T": _decode_time,
    b"V": lambda encoded, offset: (None, offset),
}

_CONTAINERS: dict[bytes, Callable[[bytes, int, int], tuple[Any, int]]] = {b"A": _decode_list, b"F": _decode_table}


# ---- encoding -----------------------------------------------------------------------------------------------------


_encode_as_pika = pika.data.encode_value


def encode_value(pieces: list[bytes], value: Any) -> int:
    """Append the bytes of a field `value` to `pieces`; returns their number. Raises ValueError if AMQP has no such."""
    if isinstance(value, float):
        pieces.append(struct.pack(">cd", b"d", value))
        return len(pieces[-1])
    if isinstance(value, Decimal):
        pieces.append(b"D" + _decimal(value))
        return len(pieces[-1])
    if isinstance(value, int) and not -(2**63) <= value < 2**63:  # pika before 1.4 would change its sign
        raise ValueError("an integer beyond 64 bits")
    try:
        return int(_encode_as_pika(pieces, list(value) if isinstance(value, tuple) else value))
    except (struct.error, pika.exceptions.UnsupportedAMQPFieldException) as error:
        raise ValueError(f"AMQP has no kind for this {type(value).__name__}") from error


def _decimal(value: Decimal) -> bytes:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not -255 <= exponent <= 9:
        raise ValueError("a decimal out of AMQP's range")
    scale = max(0, -exponent)
    unscaled = int(value.scaleb(scale))
    if unscaled.bit_length() > 31:
        raise ValueError("a decimal out of AMQP's range")
    return _DECIMAL.pack(scale, unscaled)
