"""AMQP field tables (message headers) as msgpack: lossless, and in one canonical form. Pure; any process may use it.

msgspec writes decimals and datetimes without a zone as strings, and would read them back as strings. Keys are written
in sorted order, so that equal tables are equal bytes and can be digested.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from supervisor.messages.message import Properties

_DECIMAL = 1  # the code of the msgpack extension type
_EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX, capitals=1, traps=[InvalidOperation])
"""Replaces the thread's own context, which user code may have set to three digits."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def packable(value: Any) -> Any:
    """`value` converted to types that msgspec writes without loss; most values are returned as they are.

    Decimals lose trailing zeros, as they do in AMQP. A datetime without a zone is UTC (AMQP 0-9-1, 4.2.5.4: timestamps
    are POSIX time).
    """
    convert = _CONVERSIONS.get(type(value))
    return value if convert is None else convert(value)


def _table(table: dict[str, Any]) -> dict[str, Any]:
    return {name: packable(value) for name, value in table.items()}


def _array(values: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [packable(value) for value in values]


def _decimal(number: Decimal) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(_DECIMAL, _EXACT.to_sci_string(_EXACT.normalize(number)).encode())


def _moment(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    dict: _table,
    list: _array,
    tuple: _array,
    Decimal: _decimal,
    datetime: _moment,
}


def extension(code: int, data: memoryview) -> Any:
    """The `ext_hook` of a decoder for values made by `packable`. Raises ValidationError for other bytes.

    `code`, `data`: type and payload of the msgpack extension.
    """
    try:
        return _EXTENSIONS[code](bytes(data).decode())
    except (KeyError, ValueError, ArithmeticError) as error:
        raise msgspec.ValidationError(f"an unknown or damaged msgpack extension, type {code}") from error


_EXTENSIONS: dict[int, Callable[[str], Any]] = {_DECIMAL: Decimal}

_decode_properties = msgspec.msgpack.Decoder(Properties, ext_hook=extension).decode


def pack_canonical(value: Any) -> bytes:
    """A header `value`, or a tuple of them, as canonical msgpack: equal values are equal bytes."""
    return _encode(packable(value))


def pack_words(words: tuple[str | int | bytes | None, ...]) -> bytes:
    """`pack_canonical` of `words` that need no conversion, at a fifth of its cost."""
    return _encode(words)


def packable_properties(properties: Properties) -> Properties:
    """`properties` in types that msgspec writes without loss; the same object if there are no headers."""
    if not properties.headers:
        return properties
    return msgspec.structs.replace(properties, headers=packable(properties.headers))


def pack_properties(properties: Properties) -> bytes:
    """Properties as bytes for `unpack_properties`, without loss."""
    return _encode(packable_properties(properties))


def unpack_properties(data: bytes) -> Properties:
    """The properties in `data`, written by `pack_properties`. Raises MsgspecError for other bytes."""
    return _decode_properties(data)
