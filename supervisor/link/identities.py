"""Identities in frames (one generation of a worker, one intended run), numbers with a range, and the fingerprint by
which two builds know whether they understand each other's frames. For `link/frames.py`. Pure.

Decoded values are within their range, so no receiver checks it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Annotated

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
"""A slot, a generation or a small count; 32 bits, as in the slot file."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

Pid = Annotated[int, msgspec.Meta(ge=1, le=2**22)]
"""PID_MAX_LIMIT of Linux is 2^22 (proc_sys_kernel(5))."""

Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e10)]
"""A duration, or a wall-clock time before the year 2286; neither NaN nor infinite."""


class Incarnation(msgspec.Struct, frozen=True, array_like=True):
    """One worker: its slot and generation, unique within the state directory."""

    slot: Number
    generation: Number


class RunId(msgspec.Struct, frozen=True, array_like=True):
    """One intended run of one message: `key` names the message, (round, attempt) orders its runs."""

    key: Annotated[bytes, msgspec.Meta(max_length=32)]
    round: Number
    attempt: Number


def fingerprint(structs: Iterable[type]) -> str:
    """Eight hexadecimal digits (CRC-32) for `structs`, others after a field was added, removed, moved or retyped.

    A number kept by hand would be forgotten. The digits protect against other builds, not attackers: `hashlib` would
    cost every worker the memory of OpenSSL.
    """
    lines = sorted(f"{struct.__name__}({', '.join(_fields(struct))})" for struct in structs)
    return f"{zlib.crc32(chr(10).join(lines).encode()):08x}"


def _fields(struct: type) -> list[str]:
    types: dict[str, object] = struct.__annotations__
    return [f"{name}: {types[name]}" for name in struct.__struct_fields__]  # type: ignore[attr-defined]
