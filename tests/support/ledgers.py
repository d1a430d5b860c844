"""Rows for ledger tests."""

from __future__ import annotations

import hashlib

from supervisor.ledger.base import Row, RowState


def key_of(id: str, content: str = "") -> bytes:
    """A 24-byte key as `supervisor.identity` makes them."""
    return hashlib.blake2b(id.encode(), digest_size=16).digest() + content.encode().ljust(8, b"\0")[:8]


def row_of(id: str, state: RowState = RowState.DONE, at_s: float = 1000.0, content: str = "") -> Row:
    """A plausible first-attempt row."""
    return Row(key_of(id, content), 1, 1, state, 3, 17, at_s, id)
