"""Notes about a ledger outside of it: they show that an older ledger, another one, or none at all, is in its place.

The consumer notes in two places which ledger it has and how far that has come: beside the pool's folder (it survives
the ledger's file) and in the runtime directory (it survives the whole state directory, until the machine boots). A
ledger that is behind such a note has forgotten what was done: a file restored from a copy, deleted, or of another pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec


class Mark(msgspec.Struct, frozen=True):
    """`ledger`: which one (a random name it was given when it was made). `session`: how often it has been opened.
    `record`: the number of its last record. `embedded`: whether messages came from the embedded queue."""

    ledger: str
    session: int
    record: int
    embedded: bool = False


def notes(paths: Iterable[Path]) -> list[Mark]:
    """The notes at `paths`; a note that cannot be read is left out."""
    found = []
    for path in paths:
        with suppress(OSError, msgspec.MsgspecError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Mark))
    return found


def note(paths: Iterable[Path], mark: Mark) -> None:
    """Note `mark` at `paths`; where that cannot be done (a full disk), the former note stays, which only knows less."""
    for path in paths:
        with suppress(OSError):
            fresh = path.with_name(f".{path.name}")
            fresh.touch(mode=0o600)
            fresh.write_bytes(msgspec.json.encode(mark))
            fresh.replace(path)


def behind(found: Mark, noted: Iterable[Mark]) -> str:
    """Why this ledger is not what it was when it was last in use; "" where nothing says so."""
    for mark in noted:
        if mark.ledger != found.ledger:
            return "it is not the one that was in use last"
        if (found.session, found.record) < (mark.session, mark.record):
            return f"it is older than it was (record {found.record} of {mark.record}): a copy was put in its place"
    return ""
