"""Names a set of frames by what they are made of, so that two builds can tell whether they understand each other. Pure.

A number kept by hand is forgotten; the names, order and types of all fields are not. Any process may use it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable


def fingerprint(structs: Iterable[type]) -> str:
    """Eight hexadecimal digits (CRC-32) that differ when a struct or a field was added, removed, moved or retyped.

    It tells builds apart, not attackers. `hashlib` would cost every worker the memory of OpenSSL.
    """
    lines = sorted(f"{struct.__name__}({', '.join(_fields(struct))})" for struct in structs)
    return f"{zlib.crc32(chr(10).join(lines).encode()):08x}"


def _fields(struct: type) -> list[str]:
    types: dict[str, object] = struct.__annotations__
    return [f"{name}: {types[name]}" for name in struct.__struct_fields__]  # type: ignore[attr-defined]
