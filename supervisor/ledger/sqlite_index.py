"""The ledger's index: looks rows up by key, folds what is recent into `keys`, forgets what is old. On a connection that
`sqlite.py` (or `sqlite_peek.py`, to read) has opened, within its transactions; see `schema.py` for the tables.

Folding goes on a slice per commit, never all at once: in a ledger of millions each key costs a page, and a turn of the
consumer must stay short. Until a round is over, `folded` stays where it was, so that after a crash it begins anew.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from supervisor.identity import DIGEST_BYTES, ID_BYTES
from supervisor.ledger import schema
from supervisor.ledger.base import Row
from supervisor.ledger.recent import Recent

FOLD_AFTER_ROWS = 4096
"""So many closed rows are held in memory before a round begins: the more, the more of them share a page."""
FOLD_SLICE_ROWS = 256
"""The least that one commit folds while a round is on; twice what it settles if that is more."""

_LAST_DIGEST = b"\xff" * DIGEST_BYTES


class Index:
    """`recent`: what `keys` does not know. Raises sqlite3.Error and schema.Damaged."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.recent = Recent()
        self._database = database
        self._folded: int = meta(database, "folded")
        self._fold: list[tuple[bytes, int]] = []  # of the round that is on: what is left of it, last first
        self._horizon = 0
        for seq, record in database.execute(schema.UNFOLDED, (self._folded,)):
            self.recent.put(seq, schema.unpack(record))

    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
        """For each key what `rows_of_id` says. Nearly all are asked for the first time, and one query serves many."""
        known: set[bytes] = set()
        for start in range(0, len(keys), schema.KEYS_A_QUERY):
            ids = [key[:ID_BYTES] for key in keys[start : start + schema.KEYS_A_QUERY]]
            ends = [end for id in ids for end in (id, id + _LAST_DIGEST)]
            known.update(key[:ID_BYTES] for (key,) in self._database.execute(schema.known_of(len(ids)), ends))
        return {key: self.rows_of_id(key) if self._is_known(key, known) else [] for key in keys}

    def _is_known(self, key: bytes, indexed_ids: set[bytes]) -> bool:
        return key[:ID_BYTES] in indexed_ids or bool(self.recent.of_id(key))

    def rows_of_id(self, key: bytes) -> list[Row]:
        """The rows with this key's id part, in the order of their keys."""
        id = key[:ID_BYTES]
        found = self._database.execute(schema.KEYS_OF_ID, (id, id + _LAST_DIGEST)).fetchall()
        recent = self.recent.of_id(key)
        rows = {indexed: row for indexed, (_, row) in recent.items()}
        for indexed, seq in found:
            if indexed not in rows:
                rows[indexed] = self._row(indexed, seq)
        return [rows[indexed] for indexed in sorted(rows)]

    # ---- folding --------------------------------------------------------------------------------------------------

    def fold_some(self, settled: int, last_seq: int) -> list[Row] | None:
        """Go on with the round, or begin one when there is enough; `settled`: closed rows of this commit.

        When the round is over: the open rows that must be written once more, in a record after `last_seq`.
        """
        if not self._fold:
            if self.recent.settled < FOLD_AFTER_ROWS:
                return None
            self._begin(last_seq)
        size = max(FOLD_SLICE_ROWS, 2 * settled)
        fold = self._fold
        self._put_keys(fold[-size:])
        del fold[-size:]
        return None if fold else self._end()

    def fold_all(self, last_seq: int) -> list[Row]:
        """A whole round at once; gives what `fold_some` does."""
        self._begin(last_seq)
        self._put_keys(self._fold)
        self._fold.clear()
        return self._end()

    def _begin(self, last_seq: int) -> None:
        self._horizon = last_seq
        self._fold = self.recent.settled_keys()

    def _put_keys(self, entries: list[tuple[bytes, int]]) -> None:
        database = self._database
        added = database.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", entries).rowcount
        if added < len(entries):
            database.executemany("UPDATE keys SET seq = ?2 WHERE key = ?1", entries)
        database.execute("UPDATE meta SET value = value + ? WHERE name = 'keys'", (added,))

    def _end(self) -> list[Row]:
        self._folded = self._horizon
        self._database.execute("UPDATE meta SET value = ? WHERE name = 'folded'", (self._folded,))
        self._database.execute("DELETE FROM begun WHERE seq <= ?", (self._folded,))
        self.recent.forget_settled(self._folded)
        return self.recent.open_rows(self._folded)

    # ---- eviction -------------------------------------------------------------------------------------------------

    def evictable(self, older_than_s: float, keep_max: int) -> bool:
        """Whether there may be something to forget. Cheap: asked all the time."""
        oldest = self._database.execute("SELECT at_s FROM settled ORDER BY seq LIMIT 1").fetchone()
        return oldest is not None and (oldest[0] < older_than_s or self.rows > keep_max)

    @property
    def any_folded(self) -> bool:
        """Whether the oldest record is in `keys`, so that its rows can be forgotten."""
        return self._database.execute(schema.OLDEST_FOLDED, (self._folded,)).fetchone() is not None

    @property
    def rows(self) -> int:
        """How many messages are known; one that is both recent and in `keys` counts twice until it is folded."""
        known: int = meta(self._database, "keys")
        return known + len(self.recent)

    def evict(self, older_than_s: float, keep_max: int, batch: int) -> tuple[int, int]:
        """As `Ledger.evict`, of what is folded; rows that a later one of their key has replaced go too, uncounted."""
        excess = self.rows - keep_max
        aged = early = dropped = 0
        oldest = self._oldest(batch)
        gone: Counter[int] = Counter()  # rows by record
        for seq, row in oldest:
            old = row.at_s < older_than_s
            if not old and dropped >= excess and self._is_newest(row, seq):
                break
            gone[seq] += 1
            if self._drop_key(row, seq):
                dropped += 1
                counts = row.key not in self.recent.of_id(row.key)
                aged, early = aged + (old and counts), early + (not old and counts)
        for seq, rows in gone.items():
            self._shorten(seq, rows)
        self._database.execute("UPDATE meta SET value = value - ? WHERE name = 'keys'", (dropped,))
        return aged, early

    def _oldest(self, count: int) -> list[tuple[int, Row]]:
        """The oldest rows in `keys`, at most so many, each with its record."""
        found: list[tuple[int, Row]] = []
        for seq, record in self._database.execute(schema.OLDEST_FOLDED, (self._folded,)):
            found += [(seq, row) for row in schema.unpack(record)]
            if len(found) >= count:
                break
        return found[:count]

    def _is_newest(self, row: Row, seq: int) -> bool:
        found: tuple[int] | None = self._database.execute(schema.SEQ_OF_KEY, (row.key,)).fetchone()
        return found == (seq,)

    def _drop_key(self, row: Row, seq: int) -> bool:
        return self._database.execute("DELETE FROM keys WHERE key = ? AND seq = ?", (row.key, seq)).rowcount > 0

    def _shorten(self, seq: int, gone: int) -> None:
        """Take the first rows from a record, and the record when that was all."""
        (record,) = self._database.execute(schema.SETTLED, (seq,)).fetchone()
        rows = schema.unpack(record)[gone:]
        if rows:
            values = (rows[0].at_s, schema.pack(rows), seq)
            self._database.execute("UPDATE settled SET at_s = ?, rows = ? WHERE seq = ?", values)
        else:
            self._database.execute("DELETE FROM settled WHERE seq = ?", (seq,))

    def _row(self, key: bytes, seq: int) -> Row:
        for (record,) in self._database.execute(schema.SETTLED, (seq,)):
            for row in schema.unpack(record):
                if row.key == key:
                    return row
        raise schema.Damaged(f"a key names record {seq}, which has no such row")


def meta(database: sqlite3.Connection, name: str) -> Any:
    """One value of the table `meta`; None where there is none."""
    (value,) = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone() or (None,)
    return value
