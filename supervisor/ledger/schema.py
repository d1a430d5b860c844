"""The ledger's tables, and how rows are written in them. Data and pure functions; `sqlite*.py` run it all.

Written in the order of events, looked up by key: a commit appends its rows, packed, as records to `settled` (closed
rows) and `begun` (open ones), which costs a page or two however many rows there are. Where the newest closed row of a
message is, `keys` says: its own primary-key tree (WITHOUT ROWID), in which all rows of an id lie side by side under
their key's first 16 bytes. Keys are random, so each costs a page of its own there; they are folded in later, many at
once and in their order. `folded` in `meta` is the last record that is in `keys`; what came after it is held in memory,
and read again at the start. A `begun` record is needed until then only: rows still open are carried into a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import msgspec

from supervisor.ledger.base import Row

VERSION = 2

RECORD_ROWS = 256
"""The most rows of one record: what a look-up that finds something has to unpack."""

CREATE = (
    "CREATE TABLE settled (seq INTEGER PRIMARY KEY, at_s REAL NOT NULL, rows BLOB NOT NULL)",
    "CREATE TABLE begun (seq INTEGER PRIMARY KEY, rows BLOB NOT NULL)",
    "CREATE TABLE keys (key BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    f"INSERT INTO meta VALUES ('keys', 0), ('folded', 0), ('boot_id', NULL), ('schema', {VERSION})",
)
"""`at_s` of a record: that of its oldest row; its rows are in the order of theirs. `keys` in `meta`: how many."""

ADD_SETTLED = "INSERT INTO settled VALUES (?, ?, ?)"
ADD_BEGUN = "INSERT INTO begun VALUES (?, ?)"
ADD_TO_COUNTER = """INSERT INTO counters VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"""

LAST_SEQ = "SELECT max((SELECT ifnull(max(seq), 0) FROM settled), (SELECT ifnull(max(seq), 0) FROM begun))"
UNFOLDED = """SELECT seq, rows FROM settled WHERE seq > ? UNION ALL SELECT seq, rows FROM begun ORDER BY seq"""
SETTLED = "SELECT rows FROM settled WHERE seq = ?"
OLDEST_FOLDED = "SELECT seq, rows FROM settled WHERE seq <= ? ORDER BY seq"
SEQ_OF_KEY = "SELECT seq FROM keys WHERE key = ?"
KEYS_OF_ID = "SELECT key, seq FROM keys WHERE key BETWEEN ? AND ?"

KEYS_A_QUERY = 16

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Row]).decode


def pack(rows: Iterable[Row]) -> bytes:
    """A record of these rows."""
    return _encode(list(rows))


@cache
def known_of(ids: int) -> str:
    """The query for all keys of so many ids (at most KEYS_A_QUERY), each given as the least and the greatest key."""
    return " UNION ALL ".join(["SELECT key FROM keys WHERE key BETWEEN ? AND ?"] * ids)


class Damaged(Exception):
    """The tables contradict themselves, or hold what was never written."""


def unpack(record: bytes) -> list[Row]:
    """The rows of a record. Raises Damaged."""
    try:
        return _decode(record)
    except msgspec.MsgspecError as error:
        raise Damaged(f"a record cannot be read: {error}") from error


def in_records(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
    """The same rows in portions for one record each."""
    return (rows[start : start + RECORD_ROWS] for start in range(0, len(rows), RECORD_ROWS))
