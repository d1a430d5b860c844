"""Which keys a section of the file has, and how each is read: derived from the schema. Pure.

Names, types and defaults live in `schema.py` only: its field `timeout_s` is the key `timeout`, read as a duration,
`max_memory_bytes` is `max_memory`, read as a size. A reader takes a TOML value and raises ValueError saying what is
wrong with it; it knows nothing of other keys (that is `rules.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from supervisor.quantities import read_bytes, read_seconds, show_bytes, show_seconds

Reader = Callable[[Any], Any]


class Key(msgspec.Struct, frozen=True):
    """A key of the file, the schema's field it fills, and the field's default (NODEFAULT: the key is required)."""

    name: str
    field: str
    read: Reader
    default: Any

    @property
    def required(self) -> bool:
        """Whether the file must have it."""
        return self.default is msgspec.NODEFAULT

    def show(self, value: Any) -> str:
        """A `value` of the field as users write it: `30s`, `256MiB`."""
        if self.field.endswith("_s") and isinstance(value, float):
            return show_seconds(value)
        return show_bytes(value) if self.field.endswith("_bytes") else str(value)


def keys_of(section: type[msgspec.Struct]) -> dict[str, Key]:
    """The keys of a section by name, in the schema's order."""
    keys = (_key(field) for field in msgspec.structs.fields(section))
    return {key.name: key for key in keys}


def _key(field: msgspec.structs.FieldInfo) -> Key:
    default = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    name = _RENAMED.get(field.name, field.name.removesuffix("_s").removesuffix("_bytes"))
    read = _READERS.get(name) or _reader(field)
    return Key(name, field.name, partial(_or_off, read) if name in OPTIONAL else read, default)


def _reader(field: msgspec.structs.FieldInfo) -> Reader:
    unit = next((unit for unit in ("_s", "_bytes") if field.name.endswith(unit)), "")
    return _UNIT_READERS.get((unit, field.type)) or partial(_typed, field.type)


def _typed(type_: Any, value: Any) -> Any:
    if _has_huge_number(value):
        raise ValueError("is a number of more than 64 bits")
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`", "").replace("Expected", "expected").split(" - at")[0]) from None


def _has_huge_number(value: Any) -> bool:
    """Whether a whole number is in it that no frame and no AMQP table can carry."""
    if isinstance(value, dict | list):
        return any(map(_has_huge_number, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _or_off(read: Reader, value: Any) -> Any:
    return read(0 if value == "" else value)


def _durations(value: Any) -> tuple[float, ...]:
    return tuple(read_seconds(item) for item in _list(value, 'durations, such as ["1s", "10s"]'))


def _backoff(value: Any) -> tuple[float, float]:
    items = _list(value, 'two durations, such as ["100ms", "30s"]', 2)
    return read_seconds(items[0]), read_seconds(items[1])


def _intensity(value: Any) -> tuple[int, float]:
    items = _list(value, 'a number and a duration, such as [10, "60s"]', 2)
    return _typed(int, items[0]), read_seconds(items[1])


def _urls(value: Any) -> tuple[str, ...]:
    return tuple(_typed(str, item) for item in (value if isinstance(value, list) else [value]))


def _list(value: Any, what: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or length not in (None, len(value)):
        raise ValueError(f"expected a list of {what}")
    return value


OPTIONAL = frozenset({"soft_timeout", "max_wait", "max_messages", "max_age", "max_memory", "kill_memory"})
"""Limits that 0 or "" turns off."""

_RENAMED = {"urls": "url", "url": "url_file"}
"""Fields whose key has another name. [fleet] has its URL in a file only."""

_READERS: dict[str, Reader] = {"url": _urls, "restart_intensity": _intensity, "rate": _intensity}

_UNIT_READERS: dict[tuple[str, Any], Reader] = {
    ("_s", float): read_seconds,
    ("_s", tuple[float, ...]): _durations,
    ("_s", tuple[float, float]): _backoff,
    ("_bytes", int): read_bytes,
}
