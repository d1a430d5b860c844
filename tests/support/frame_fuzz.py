"""Bytes that a broken child could send: made from the schema of the frames themselves, then spoiled. Drawn from a seed.

Nothing here knows a frame by name, so a new frame is spoiled without being listed.
"""

from __future__ import annotations

import math
import random
import struct
import typing
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

_LENGTH = struct.Struct("<I")

NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 255, 256, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1)
FLOATS = (0.0, -1.0, 0.5, 1e-300, 1e10, 1e300, math.inf, -math.inf, math.nan)
TEXTS = ("", "a", "done", "failed", "retry", "é\n\x00", "\U0001f600" * 3, "x" * 70_000)


class FrameFuzz:
    """Makes payloads for one language; `union` is the union of its frames."""

    def __init__(self, union: Any, seed: int) -> None:
        self._frames = typing.get_args(union)
        self._dice = random.Random(seed)
        self._spoil: tuple[Callable[[type], bytes], ...] = (
            self._valid,
            self._valid,
            self._swapped,
            self._shortened,
            self._lengthened,
            self._retyped,
            self._retyped,
            self._truncated,
            self._flipped,
            self._renamed,
            self._deep,
            self._garbage,
            self._oversized,
        )

    def payloads(self, count: int) -> Iterator[bytes]:
        """So many pieces of a stream; most are one frame with its length, some are repeated, some are not whole."""
        for _ in range(count):
            payload = self._dice.choice(self._spoil)(self._dice.choice(self._frames))
            yield payload * self._dice.choice((1, 1, 1, 1, 2, 50))

    # ---- whole frames ---------------------------------------------------------------------------------------------

    def _valid(self, frame: type) -> bytes:
        """Right by its types, for the most part, with numbers that were never given out."""
        return framed(self._fields(frame))

    def _swapped(self, frame: type) -> bytes:
        fields = self._fields(frame)
        if len(fields) > 2:
            one, other = self._dice.sample(range(1, len(fields)), 2)
            fields[one], fields[other] = fields[other], fields[one]
        return framed(fields)

    def _shortened(self, frame: type) -> bytes:
        fields = self._fields(frame)
        return framed(fields[: self._dice.randrange(len(fields) + 1)])

    def _lengthened(self, frame: type) -> bytes:
        return framed([*self._fields(frame), *(self._anything(2) for _ in range(self._dice.randint(1, 3)))])

    def _retyped(self, frame: type) -> bytes:
        fields = self._fields(frame)
        fields[self._dice.randrange(len(fields))] = self._anything(2)
        return framed(fields)

    def _renamed(self, frame: type) -> bytes:
        names = ("Absent", "", 7, None, "StartConsumer", "Quit", self._dice.choice(self._frames).__name__)
        return framed([self._dice.choice(names), *self._fields(frame)[1:]])

    def _deep(self, frame: type) -> bytes:
        depth = self._dice.choice((3, 100, 500, 5000))
        payload = msgspec.msgpack.encode(frame.__name__)
        return _with_length(b"\x92" + payload + b"\x91" * depth + b"\xc0")

    # ---- no frames ------------------------------------------------------------------------------------------------

    def _truncated(self, frame: type) -> bytes:
        """A whole length before half a frame."""
        data = framed(self._fields(frame))[_LENGTH.size :]
        return _with_length(data[: self._dice.randrange(len(data))])

    def _flipped(self, frame: type) -> bytes:
        data = bytearray(framed(self._fields(frame)))
        for _ in range(self._dice.randint(1, 4)):
            data[self._dice.randrange(_LENGTH.size, len(data))] = self._dice.randrange(256)
        return bytes(data)

    def _garbage(self, frame: type) -> bytes:
        return _with_length(self._dice.randbytes(self._dice.choice((0, 1, 5, 300))))

    def _oversized(self, frame: type) -> bytes:
        return _LENGTH.pack(self._dice.choice((2**32 - 1, 2**31, 300 * 1024 * 1024))) + b"\x91"

    # ---- values ---------------------------------------------------------------------------------------------------

    def _fields(self, frame: type) -> list[Any]:
        hints = typing.get_type_hints(frame, include_extras=True)
        names: tuple[str, ...] = frame.__struct_fields__  # type: ignore[attr-defined]
        return [frame.__name__, *(self._value(hints[name], 3) for name in names)]

    def _value(self, kind: Any, depth: int) -> Any:
        """A value of this type; half of the numbers are small, as slots and generations are."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Annotated:
            return self._value(arguments[0], depth)
        if kind is int:
            return self._dice.choice((0, 1, 2, 3, self._dice.choice(NUMBERS)))
        if kind is float:
            return self._dice.choice((0.25, self._dice.choice(FLOATS)))
        if kind is str:
            return self._dice.choice(TEXTS)
        if kind is bytes:
            return self._dice.randbytes(self._dice.choice((0, 3, 24)))
        if kind is bool:
            return self._dice.random() < 0.5
        if origin in (list, tuple):
            return [self._value(arguments[0], depth - 1) for _ in range(self._dice.choice((0, 1, 3)))]
        if origin is dict:
            keys = (*TEXTS[:4], "state", "why", "ready", "done", "handler_s", "event")
            return {self._dice.choice(keys): self._value(arguments[1], depth - 1) for _ in range(4)}
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(kind, depth)
        if arguments:  # a union
            return self._value(self._dice.choice(arguments), depth)
        return None if kind is type(None) else self._anything(depth)

    def _struct(self, kind: type[msgspec.Struct], depth: int) -> Any:
        hints = typing.get_type_hints(kind, include_extras=True)
        values = {name: self._value(hints[name], depth - 1) for name in kind.__struct_fields__}
        return list(values.values()) if kind.__struct_config__.array_like else values

    def _anything(self, depth: int) -> Any:
        plain = (None, True, self._dice.choice(NUMBERS), self._dice.choice(FLOATS), self._dice.choice(TEXTS), b"\xff")
        if depth <= 0 or self._dice.random() < 0.5:
            return self._dice.choice((*plain, msgspec.msgpack.Ext(1, b"1.5"), msgspec.msgpack.Ext(9, b""), Decimal(2)))
        if self._dice.random() < 0.5:
            return [self._anything(depth - 1) for _ in range(3)]
        return {self._dice.choice(("a", "state", "why")): self._anything(depth - 1)}


def framed(value: Any) -> bytes:
    """A value as the channel sends it."""
    return _with_length(msgspec.msgpack.encode(value))


def _with_length(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data
