"""Checks a publication before it is sent: every property and kind of header with its bounds. Pure.

Runs in the handler's own line (`api.py`) and in `preforkd publish`: a broker answers a bad publication by closing the
channel, or crashes on it, long after the handler has returned.
The bounds are those of AMQP 0-9-1 (https://www.rabbitmq.com/amqp-0-9-1-protocol, section 4.2.5: a short string has 255
bytes) and of RabbitMQ 3.10 to 4.0, tried on both: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3 for headers.
The broker itself checks exchanges, rights and its `max_message_size`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import msgspec

from supervisor.messages.message import PROPERTIES_ROOM_BYTES, Properties, Publication

SHORT_STRING_BYTES = 255
DEEPEST = 64
"""Most levels of nested tables and lists. AMQP has no bound, but recursive readers need as deep a stack."""

LARGEST_BODY_BYTES = 128 * 1024 * 1024
"""RabbitMQ's default for `max_message_size` up to 3.13; from 4.0 on it is 16 MiB, which the broker checks."""

LARGEST_RUN_BYTES = 240 * 1024 * 1024
"""The most that one run may publish: it goes to the consumer in one frame (`link/channel.py`)."""

_INTEGER_BITS, _UNSIGNED_BITS = 63, 64
_LARGEST_EXPIRATION_MS = 2**32 - 1
_LARGEST_SCALE, _LARGEST_UNSCALED = 255, 2**31 - 1
_DECIMAL_DIGITS = len(str(_LARGEST_UNSCALED))


def sendable(publication: Publication) -> Publication:
    """A copy of the publication in plain types. Raises ValueError for one that cannot be sent.

    Subclasses of str, int, float, dict, list and so on become their base class, NumPy's scalars Python's own.
    """
    size = len(publication.body)
    if size > LARGEST_BODY_BYTES:
        raise ValueError(f"the body has {size} bytes, at most {LARGEST_BODY_BYTES} can be sent")
    return Publication(
        _short_string("exchange", publication.exchange),
        _short_string("routing_key", publication.routing_key),
        _properties(publication.properties),
        publication.body,
    )


def checked_table(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """An AMQP `table` (headers, arguments) in plain types. Raises ValueError for a value that AMQP cannot carry."""
    return _table(name, table, 0)


def checked_name(name: str, value: str) -> str:
    """The `value` of `name`: an exchange, queue or routing key. Raises ValueError if AMQP cannot carry it."""
    return _short_string(name, value)


def weight_bytes(publication: Publication) -> int:
    """The share of a publication in `LARGEST_RUN_BYTES`, rounded up."""
    return len(publication.body) + _size(publication.properties.headers) + _ENVELOPE_BYTES


_NOTHING = Properties()
_ENVELOPE_BYTES = 14 * SHORT_STRING_BYTES  # twelve properties, exchange and routing key


def _properties(properties: Properties) -> Properties:
    checked = {
        name: check(name, value) for name, check in _CHECKS.items() if (value := getattr(properties, name)) is not None
    }
    room = PROPERTIES_ROOM_BYTES - (SHORT_STRING_BYTES + 1) * len(checked)
    if (size := _size(checked.get("headers"))) > room:
        raise ValueError(f"headers: {size} bytes as AMQP writes them, which one frame does not hold (at most {room})")
    return msgspec.structs.replace(_NOTHING, **checked)


# ---- properties ---------------------------------------------------------------------------------------------------


def _short_string(name: str, value: Any) -> str:
    if type(value) is str and len(value) <= SHORT_STRING_BYTES and value.isascii():  # nearly always
        return value
    if not isinstance(value, str):
        raise _unexpected(name, "str", value)
    text = str.__str__(value)
    size = len(_utf8(name, text))
    if size > SHORT_STRING_BYTES:
        raise ValueError(f"{name}: {size} bytes in UTF-8, AMQP allows {SHORT_STRING_BYTES}")
    return text


def _number(least: int, most: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        value = _scalar(value)
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise _unexpected(name, "int", value)
        number = int.__int__(value) if isinstance(value, int) else int(value)
        if not least <= number <= most:
            raise ValueError(f"{name}: {number} is not between {least} and {most}")
        return number

    return check


def _expiration(name: str, value: Any) -> str:
    text = _short_string(name, value)
    if not (text.isascii() and text.isdecimal() and int(text) <= _LARGEST_EXPIRATION_MS):
        raise ValueError(
            f"{name}: {text!r} is no number of milliseconds written as a string, such as '60000',"
            f" at most {_LARGEST_EXPIRATION_MS}"
        )
    return text


def _headers(name: str, value: Any) -> dict[str, Any]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise _unexpected(name, "object", value)
    headers = _table(name, value, 0)
    for routing in ("CC", "BCC"):
        if routing in headers:
            _routing_keys(f"{name}[{routing!r}]", headers[routing])
    return headers


def _routing_keys(name: str, value: Any) -> None:
    """Check CC or BCC: RabbitMQ refuses a value that is no list, and silently ignores a key that is no string."""
    if not isinstance(value, list):
        raise _unexpected(name, "list", value)
    for key in value:
        _short_string(name, key)


_CHECKS: dict[str, Callable[[str, Any], Any]] = dict.fromkeys(Properties.__struct_fields__, _short_string) | {
    "headers": _headers,
    "delivery_mode": _number(1, 2),
    "priority": _number(0, 255),
    "expiration": _expiration,
    "timestamp": _number(0, 2**_UNSIGNED_BITS - 1),
}
"""All other properties are short strings."""


# ---- header values ------------------------------------------------------------------------------------------------


def _value(name: str, value: Any, depth: int) -> Any:
    check = _KINDS.get(type(value)) or _kind_of_base(value)
    if check is not None:
        return check(name, value, depth)
    if (scalar := _scalar(value)) is not value:
        return _value(name, scalar, depth)
    try:
        plain = msgspec.to_builtins(value, builtin_types=(bytes, datetime, Decimal))  # UUIDs, dates, enums …
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name}: AMQP has no kind for {type(value).__name__}") from error
    return _value(name, plain, depth + 1)


def _kind_of_base(value: Any) -> Callable[[str, Any, int], Any] | None:
    return next((check for kind, check in _KINDS.items() if isinstance(value, kind)), None)


def _scalar(value: Any) -> Any:
    """A scalar of NumPy or a similar library as Python's own type; any other value unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _text(name: str, value: str, depth: int) -> str:
    if type(value) is str and value.isascii():
        return value
    text = str.__str__(value)
    _utf8(name, text)
    return text


def _integer(name: str, value: int, depth: int) -> int:
    number = int.__int__(value)
    if not -(2**_INTEGER_BITS) <= number < 2**_INTEGER_BITS:
        raise ValueError(f"{name}: an integer beyond 64 bits")
    return number


def _float(name: str, value: float, depth: int) -> float:
    if not math.isfinite(value):
        raise ValueError(
            f"{name}: {float(value)} is not finite, and RabbitMQ fails on it: leave it out, or send a string"
        )
    return float(value)


def _decimal(name: str, value: Decimal, depth: int) -> Decimal:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{name}: {value} is no number")
    significant = "".join(map(str, digits)).rstrip("0")
    if not significant:
        return Decimal(0)
    exponent += len(digits) - len(significant)
    fits = len(significant) + max(0, exponent) <= _DECIMAL_DIGITS and -exponent <= _LARGEST_SCALE
    if not fits or int(significant) * 10 ** max(0, exponent) > _LARGEST_UNSCALED:
        raise ValueError(f"{name}: AMQP's decimals have 31 bits and at most {_LARGEST_SCALE} decimal places")
    return Decimal((sign, tuple(map(int, significant)), exponent))


def _moment(name: str, value: datetime, depth: int) -> datetime:
    date, time = (value.year, value.month, value.day), (value.hour, value.minute, value.second, value.microsecond)
    moment = datetime(*date, *time, tzinfo=value.tzinfo, fold=value.fold)  # a plain datetime for any subclass
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if moment.year < 1970:
        raise ValueError(f"{name}: {value} is before 1970, where AMQP's time begins")
    return moment


def _array(name: str, value: Any, depth: int) -> list[Any]:
    _not_too_deep(name, depth)
    return [_value(name, item, depth + 1) for item in value]


def _table(name: str, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    _not_too_deep(name, depth)
    return {_key(name, key): _value(f"{name}[{key!r}]", item, depth + 1) for key, item in value.items()}


def _key(name: str, key: Any) -> str:
    return _short_string(f"a name in {name}", key)


def _not_too_deep(name: str, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"{name[:80]}…: more than {DEEPEST} tables and lists in one another, or one within itself")


_KINDS: dict[type, Callable[[str, Any, int], Any]] = {
    str: _text,
    bool: lambda name, value, depth: bool(value),
    int: _integer,
    float: _float,
    bytes: lambda name, value, depth: bytes(memoryview(value)),
    bytearray: lambda name, value, depth: bytes(value),
    type(None): lambda name, value, depth: None,
    datetime: _moment,
    Decimal: _decimal,
    list: _array,
    tuple: _array,
    set: _array,
    frozenset: _array,
    Mapping: _table,
    Integral: lambda name, value, depth: _integer(name, int(value), depth),
    Real: lambda name, value, depth: _float(name, float(value), depth),
}
"""In the order in which subclasses are matched: bool before int."""


# ---- sizes --------------------------------------------------------------------------------------------------------


def _size(value: Any) -> int:
    """The bytes of an AMQP value, its type included."""
    if isinstance(value, str):
        return 5 + (len(value) if value.isascii() else len(value.encode()))
    if isinstance(value, bytes):
        return 5 + len(value)
    if isinstance(value, list):
        return 5 + sum(map(_size, value))
    if isinstance(value, dict):
        return 5 + sum(_size(name) + _size(item) for name, item in value.items())
    return 9


# ---- words --------------------------------------------------------------------------------------------------------


def _utf8(name: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: {value[:40]!r} is no Unicode text (surrogates): it has no UTF-8") from error


def _unexpected(name: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"{name}: Expected `{expected}`, got `{type(value).__name__}`")
