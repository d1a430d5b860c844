"""The ledger's tables, and how rows are written in them. Data and pure functions; `sqlite*.py` run it all.

Written in the order of events, looked up by key: a commit appends its rows, packed, as records to `settled` (closed
rows) and `begun` (open ones), which costs a page or two however many rows there are. Which records may have rows of an
id, the index says (`entries.py`): `runs`, and their `chunks` and `filters`. `folded` in `meta` is the last record that
is in it; what came after is held in memory, and read again at the start. A `begun` record is needed until then only:
rows still open are carried into a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from supervisor.ledger.base import Damaged, Row

VERSION = 2

RECORD_ROWS = 256
"""The most rows of one record: what a look-up that finds something has to unpack."""

CREATE = (
    "CREATE TABLE settled (seq INTEGER PRIMARY KEY, at_s REAL NOT NULL, rows BLOB NOT NULL)",
    "CREATE TABLE begun (seq INTEGER PRIMARY KEY, rows BLOB NOT NULL)",
    "CREATE TABLE runs (run INTEGER PRIMARY KEY, level INTEGER, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL)",
    "CREATE TABLE chunks (part INTEGER PRIMARY KEY, entries BLOB NOT NULL)",
    "CREATE TABLE filters (part INTEGER PRIMARY KEY, bits BLOB NOT NULL)",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    f"INSERT INTO meta VALUES ('rows', 0), ('folded', 0), ('boot_id', NULL), ('schema', {VERSION})",
)
"""`at_s` of a record: that of its oldest row; its rows are in the order of theirs. `rows` in `meta`: how many closed
rows are folded; `clock_boot_id`, `clock_offset_s`: an Anchor (`system/clock.py`); `ledger`, `session`: see
`witness.py`; `epoch`, `boot_id`: the last epoch, and its boot; `doubt_until_s`: see `Ledger.doubt`. `part`: of a run,
see `part_id`; `level`: NULL while a run is not in force."""

SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"

_PART_BITS = 20

ADD_SETTLED = "INSERT INTO settled VALUES (?, ?, ?)"
ADD_BEGUN = "INSERT INTO begun VALUES (?, ?)"
ADD_TO_COUNTER = """INSERT INTO counters VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"""

LAST_SEQ = """SELECT max((SELECT ifnull(max(seq), 0) FROM settled), (SELECT ifnull(max(seq), 0) FROM begun),
    (SELECT value FROM meta WHERE name = 'folded'))"""
LATEST = "SELECT at_s FROM settled ORDER BY seq DESC LIMIT 1"
UNFOLDED = """SELECT seq, rows, 1 FROM settled WHERE seq > ?
    UNION ALL SELECT seq, rows, 0 FROM begun ORDER BY seq"""
RECORD = "SELECT rows FROM settled WHERE seq = ? UNION ALL SELECT rows FROM begun WHERE seq = ?"
SETTLED = "SELECT rows FROM settled WHERE seq = ?"
SETTLED_BEFORE = "SELECT seq, at_s, rows FROM settled WHERE seq < ? ORDER BY seq DESC"
OLDEST_FOLDED = "SELECT seq, rows FROM settled WHERE seq <= ? ORDER BY seq"

ADD_CHUNK = "INSERT INTO chunks VALUES (?, ?)"
ADD_FILTER = "INSERT INTO filters VALUES (?, ?)"
CHUNK = "SELECT entries FROM chunks WHERE part = ?"
ALL_FILTERS = f"SELECT part >> {_PART_BITS}, bits FROM filters ORDER BY part"
REMOVE_PARTS = tuple(
    f"DELETE FROM {table} WHERE part IN (SELECT part FROM {table} WHERE part >= ? AND part < ? LIMIT ?)"
    for table in ("chunks", "filters")
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Row]).decode


def pack(rows: Iterable[Row]) -> bytes:
    """A record of these rows."""
    return _encode(list(rows))


def part_id(run: int, number: int) -> int:
    """The key of chunk `number` of a `run`, and of its filter of chunks from that number on."""
    return (run << _PART_BITS) | number


def unpack(record: bytes) -> list[Row]:
    """The rows of `record`. Raises Damaged."""
    try:
        return _decode(record)
    except msgspec.MsgspecError as error:
        raise Damaged(f"a record cannot be read: {error}") from error


def in_records(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
    """The same rows in portions for one record each."""
    return (rows[start : start + RECORD_ROWS] for start in range(0, len(rows), RECORD_ROWS))
