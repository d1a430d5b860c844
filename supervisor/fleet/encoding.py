"""Values in PostgreSQL's binary form (the functions `*_send` and `*_recv` of each type). Pure.

Used by the consumer for each request: text would have to be quoted, and psycopg's own adaptation looks at each value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

TEXT, BIGINT, DOUBLE, UUID = 25, 20, 701, 2950
"""The numbers of types (pg_type.oid), which are the same on every server."""

_BYTEA, _INT = 17, 23
_ARRAY_OF = {_BYTEA: 1001, _INT: 1007, TEXT: 1009, BIGINT: 1016, UUID: 2951}

_head = struct.Struct(">iiIii").pack  # dimensions, whether there are NULLs, type, length, lower bound (array_send)
_length = struct.Struct(">i").pack
_bigint = struct.Struct(">q")
_int = struct.Struct(">i")
_double = struct.Struct(">d")

_OF_16, _OF_8, _OF_4 = _length(16), _length(8), _length(4)


class Parameter(NamedTuple):
    """One parameter of a statement: the number of its type (pg_type.oid), and its value in binary form or None."""

    type: int
    value: bytes | None


class Statement(NamedTuple):
    """One statement with its parameters; $1 and so on stand in `sql`."""

    sql: bytes
    parameters: Sequence[Parameter] = ()


class Answer(NamedTuple):
    """The rows of a statement; each value in binary form, None for NULL."""

    rows: list[tuple[bytes | None, ...]]


def bigint(value: int | None) -> Parameter:
    """`value` as an int8 parameter; None: NULL."""
    return Parameter(BIGINT, None if value is None else _bigint.pack(value))


def double(value: float) -> Parameter:
    """`value` as a float8 parameter."""
    return Parameter(DOUBLE, _double.pack(value))


def text(value: str) -> Parameter:
    """A text parameter; see `text_bytes` for what `value` may have."""
    return Parameter(TEXT, text_bytes(value))


def uuid(value: bytes) -> Parameter:
    """A uuid parameter from the 16 bytes of `value`."""
    return Parameter(UUID, value)


def text_bytes(value: str) -> bytes:
    """`value` as a database takes it: PostgreSQL has no NUL in texts, and UTF-8 no halves of surrogates."""
    return value.encode("utf-8", "replace").replace(b"\0", b"\xef\xbf\xbd")


def ids(keys: Iterable[bytes]) -> Parameter:
    """A uuid[] parameter: the first 16 bytes of each of `keys`."""
    return _array(UUID, [_OF_16 + key[:16] for key in keys])


def digests(keys: Iterable[bytes]) -> Parameter:
    """An int8[] parameter: the last 8 bytes of each of `keys`, signed and big-endian, as PostgreSQL sends them."""
    return _array(BIGINT, [_OF_8 + key[16:24] for key in keys])


def ints(values: Sequence[int]) -> Parameter:
    """`values` as an int4[] parameter."""
    return _array(_INT, [_OF_4 + _int.pack(value) for value in values])


def texts(values: Iterable[str]) -> Parameter:
    """`values` as a text[] parameter, each as by `text_bytes`."""
    return _array(TEXT, [_length(len(one)) + one for one in map(text_bytes, values)])


def byteas(values: Iterable[bytes]) -> Parameter:
    """`values` as a bytea[] parameter."""
    return _array(_BYTEA, [_length(len(value)) + value for value in values])


def _array(type: int, items: list[bytes]) -> Parameter:
    if not items:
        return Parameter(_ARRAY_OF[type], _head(0, 0, type, 0, 0)[:12])
    return Parameter(_ARRAY_OF[type], _head(1, 0, type, len(items), 1) + b"".join(items))


def to_bigint(value: bytes) -> int:
    """An int8 from its binary form, `value`."""
    number: int = _bigint.unpack(value)[0]
    return number


def to_int(value: bytes) -> int:
    """An int4 from its binary form, `value`."""
    number: int = _int.unpack(value)[0]
    return number


def to_double(value: bytes) -> float:
    """A float8 from its binary form, `value`."""
    number: float = _double.unpack(value)[0]
    return number
