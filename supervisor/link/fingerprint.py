"""A fingerprint of a set of frames, by which two builds know whether they understand each other. Pure.

It is made of the names, order and types of all fields; a number kept by hand would be forgotten. For any process.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable


def fingerprint(structs: Iterable[type]) -> str:
    """Eight hexadecimal digits (CRC-32) for `structs`, others after a field was added, removed, moved or retyped.

    They protect against other builds, not attackers. `hashlib` would cost every worker the memory of OpenSSL.
    """
    lines = sorted(f"{struct.__name__}({', '.join(_fields(struct))})" for struct in structs)
    return f"{zlib.crc32(chr(10).join(lines).encode()):08x}"


def _fields(struct: type) -> list[str]:
    types: dict[str, object] = struct.__annotations__
    return [f"{name}: {types[name]}" for name in struct.__struct_fields__]  # type: ignore[attr-defined]
