"""Keeps properties that a copy cannot carry in one header, so that each run sees the same message. Pure.

A broker refuses some properties from us (`user_id` of another user), or acts on them again (`expiration`, `CC`), or
writes its own over them (`x-death`); and a name that was no UTF-8 may be too long as text. The copy is published
without these, and the header says what they were: properties as a table, headers as pairs of name and value.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.messages.message import Properties
from supervisor.messages.transport_headers import is_left_behind

_TO_BROKERS = ("expiration", "user_id", "cluster_id")
_PERSISTENT = 2
_SHORT_BYTES = 255  # of a name or property in AMQP
_DEEPEST = 80
"""A header that is nested more deeply is not kept: within ours it might be too deep to be read again."""
_HEADERS = "headers"
_FIELDS = frozenset(Properties.__struct_fields__) - {_HEADERS}
_NUMBERS = frozenset({"delivery_mode", "priority", "timestamp"})


def without(properties: Properties) -> tuple[Properties, dict[str, Any]]:
    """The properties as a copy may carry them, and what they lack: to be kept in the header, {} for nothing.

    The copy is persistent, and has no `message_id` if the message had none that fits.
    """
    fields = msgspec.structs.asdict(properties)
    headers = fields.pop(_HEADERS) or {}
    lacking: dict[str, Any] = {
        name: value for name, value in fields.items() if value is not None and (name in _TO_BROKERS or is_long(value))
    }
    if properties.delivery_mode != _PERSISTENT:
        lacking["delivery_mode"] = properties.delivery_mode
    carried = {name: value for name, value in headers.items() if _is_carried(name)}
    left = [[name, value] for name, value in headers.items() if name not in carried and _depth(value) < _DEEPEST]
    changes = dict.fromkeys(lacking) | {"delivery_mode": _PERSISTENT, _HEADERS: carried}
    if left or (properties.headers is not None and not carried):
        lacking[_HEADERS] = left
    return msgspec.structs.replace(properties, **changes), lacking


def restored(properties: Properties, kept: Any) -> Properties:
    """The properties that the message had before it was copied. `kept`: that header, or what stands in its place."""
    headers = {name: value for name, value in (properties.headers or {}).items() if _is_carried(name)}
    if not isinstance(kept, dict):
        return msgspec.structs.replace(properties, headers=headers or None)
    pairs = kept.get(_HEADERS)
    for pair in pairs if isinstance(pairs, list) else ():
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str):
            headers[pair[0]] = pair[1]
    fields = {name: value for name, value in kept.items() if name in _FIELDS and _fits(name, value)}
    return msgspec.structs.replace(properties, headers=headers or (None if pairs is None else {}), **fields)


def _is_carried(name: str) -> bool:
    return not is_left_behind(name) and not is_long(name)


def is_long(value: Any) -> bool:
    """Whether `value` is a text that AMQP cannot carry as a name or property."""
    return isinstance(value, str) and len(value) > _SHORT_BYTES // 4 and len(value.encode()) > _SHORT_BYTES


def _fits(name: str, value: Any) -> bool:
    """Whether a property may have this value: any publisher may have written the header."""
    return value is None or (type(value) is int if name in _NUMBERS else type(value) is str)


def _depth(value: Any) -> int:
    """In how many tables and arrays its innermost value is."""
    depth, level = 0, [value]
    while level:
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        depth += bool(level)
    return depth
