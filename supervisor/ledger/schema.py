"""The ledger's tables, and how a row is written in them. Data and pure functions; `sqlite.py` runs it all.

`messages` is its own primary-key tree (WITHOUT ROWID): all rows of an id lie side by side under their key's first
16 bytes, so a look-up is one short range scan. `state` codes below CLOSED_FROM are open; two partial indexes over
`at_s` serve eviction (closed) and recovery (open). `rows` in `meta` is kept by triggers: counting would be a scan.
"""

from __future__ import annotations

from typing import Any

from supervisor.ledger.base import Row, RowState

VERSION = 1

CLOSED_FROM = 10

STATE_CODES = {
    RowState.DISPATCHED: 0,
    RowState.RETRY_PENDING: 1,
    RowState.DEAD_PENDING: 2,
    RowState.PARKED_PENDING: 3,
    RowState.RETURNED: 10,
    RowState.DONE: 11,
    RowState.RETRY: 12,
    RowState.DEAD: 13,
    RowState.PARKED: 14,
}
"""The numbers on disk. Never change one: write a new VERSION."""

_STATES = {code: state for state, code in STATE_CODES.items()}

CREATE = (
    """CREATE TABLE messages (
        key BLOB PRIMARY KEY, round INTEGER, attempt INTEGER, state INTEGER, slot INTEGER, generation INTEGER,
        at_s REAL, id TEXT, note BLOB) WITHOUT ROWID""",
    f"CREATE INDEX open_at ON messages (at_s) WHERE state < {CLOSED_FROM}",
    f"CREATE INDEX closed_at ON messages (at_s) WHERE state >= {CLOSED_FROM}",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    f"INSERT INTO meta VALUES ('rows', 0), ('boot_id', NULL), ('schema', {VERSION})",
    """CREATE TRIGGER row_added AFTER INSERT ON messages
        BEGIN UPDATE meta SET value = value + 1 WHERE name = 'rows'; END""",
    """CREATE TRIGGER row_removed AFTER DELETE ON messages
        BEGIN UPDATE meta SET value = value - 1 WHERE name = 'rows'; END""",
)

SET_ROW = """INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    round = excluded.round, attempt = excluded.attempt, state = excluded.state, slot = excluded.slot,
    generation = excluded.generation, at_s = excluded.at_s, id = excluded.id, note = excluded.note"""

ADD_TO_COUNTER = """INSERT INTO counters VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"""

ROWS_OF_ID = "SELECT * FROM messages WHERE key BETWEEN ? AND ?"
OPEN_ROWS = f"SELECT * FROM messages WHERE state < {CLOSED_FROM} ORDER BY at_s"
FIND = "SELECT * FROM messages WHERE id = ? ORDER BY at_s DESC"

EVICT_AGED = f"""DELETE FROM messages WHERE key IN (
    SELECT key FROM messages WHERE state >= {CLOSED_FROM} AND at_s < ? ORDER BY at_s LIMIT ?)"""
EVICT_OLDEST = f"""DELETE FROM messages WHERE key IN (
    SELECT key FROM messages WHERE state >= {CLOSED_FROM} ORDER BY at_s LIMIT ?)"""


def columns(row: Row) -> tuple[Any, ...]:
    """A row as `SET_ROW` takes it."""
    return (
        row.key,
        row.round,
        row.attempt,
        STATE_CODES[row.state],
        row.slot,
        row.generation,
        row.at_s,
        row.id,
        row.note,
    )


def row_of(values: tuple[Any, ...]) -> Row:
    """The other direction of `columns`."""
    key, round_, attempt, state, *rest = values
    return Row(key, round_, attempt, _STATES[state], *rest)
