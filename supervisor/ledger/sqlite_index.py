"""The ledger's index: looks rows up by key, folds what is recent into a run, forgets what is old. On a connection that
`sqlite.py` (or `sqlite_peek.py`, to read) has opened, within its transactions; see `schema.py` for the tables.

It knows where to look, and asks the records what is so: of all rows of a key, that of the last record counts.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from supervisor.ledger import schema
from supervisor.ledger.base import Damaged, Row
from supervisor.ledger.entries import fingerprints
from supervisor.ledger.recent import Recent
from supervisor.ledger.sqlite_runs import Runs
from supervisor.messages.identity import ID_BYTES

FOLD_AFTER_ROWS = 4096
"""So many closed rows become a run: some 3 ms of work."""


class Index:
    """`recent`: what no run knows. Raises sqlite3.Error and Damaged."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.recent = Recent()
        self._database = database
        self._runs = Runs(database)
        self._folded: int = meta(database, "folded")
        for seq, record, settled in database.execute(schema.UNFOLDED, (self._folded,)):
            (self.recent.settle if settled else self.recent.begin)(seq, schema.unpack(record))

    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
        """For each of `keys` the rows with its id part, in the order of their keys. Nearly all are new."""
        rows: dict[bytes, list[Row]] = {key: [] for key in keys}
        prints = fingerprints(keys)
        recent, indexed = self.recent.find(prints), self._runs.find(prints)
        if recent or indexed:
            records: dict[int, list[Row]] = {}
            for key, known in zip(keys, prints, strict=True):
                seqs = {*recent.get(known, ()), *indexed.get(known, ())}
                if seqs:
                    rows[key] = self._rows_of_id(key[:ID_BYTES], seqs, records)
        return rows

    def _rows_of_id(self, id: bytes, seqs: Iterable[int], records: dict[int, list[Row]]) -> list[Row]:
        """The newest row of each key with this id; `records`: those that have been read."""
        newest: dict[bytes, Row] = {}
        for seq in sorted(seqs):
            if seq not in records:
                records[seq] = self._record(seq)
            newest |= {row.key: row for row in records[seq] if row.key.startswith(id)}
        return [newest[key] for key in sorted(newest)]

    def _record(self, seq: int) -> list[Row]:
        """The rows of a record; none of one that has been forgotten."""
        found = self._database.execute(schema.RECORD, (seq, seq)).fetchone()
        if found is not None:
            return schema.unpack(found[0])
        oldest = self._oldest_seq()
        if oldest is not None and seq >= oldest:
            raise Damaged(f"the index names record {seq}, which is not there")
        return []

    def _oldest_seq(self) -> int | None:
        oldest: int | None = self._database.execute("SELECT min(seq) FROM settled").fetchone()[0]
        return oldest

    def settled_before(self, place: int, since_s: float, most: int) -> tuple[list[Row], int | None]:
        """As `Ledger.settled_before`; `place`: a record; `most` rows, or a record more."""
        rows: list[Row] = []
        for seq, at_s, record in self._database.execute(schema.SETTLED_BEFORE, (place,)):
            rows += reversed(schema.unpack(record))
            if at_s < since_s:
                break
            if len(rows) >= most:
                return rows, seq
        return rows, None

    # ---- folding --------------------------------------------------------------------------------------------------

    def work(self, settled: int, last_seq: int) -> list[Row]:
        """What is due after `settled` more closed rows: fold, when there is enough; go on merging. `last_seq`, and the
        rows that are returned: as of `fold`."""
        carried = self.fold(last_seq) if self.recent.settled >= FOLD_AFTER_ROWS else []
        self._runs.work(settled)
        return carried

    def fold(self, last_seq: int) -> list[Row]:
        """Make a run of all that is recent, which is up to the record `last_seq`; gives the open rows, which must be
        written once more, in a record after that one."""
        rows, entries = self.recent.settled, self.recent.fold()
        if entries:
            self._runs.add(entries, self._folded + 1, last_seq)
        self._folded = last_seq
        self._database.execute("UPDATE meta SET value = ? WHERE name = 'folded'", (last_seq,))
        self._database.execute("UPDATE meta SET value = value + ? WHERE name = 'rows'", (rows,))
        self._database.execute("DELETE FROM begun WHERE seq <= ?", (last_seq,))
        return list(self.recent.open.values())

    # ---- eviction -------------------------------------------------------------------------------------------------

    def evictable(self, older_than_s: float, keep_max: int) -> bool:
        """Whether `evict` may find something to forget, with the same `keep_max`. Cheap: asked all the time."""
        oldest = self._database.execute("SELECT at_s FROM settled ORDER BY seq LIMIT 1").fetchone()
        return oldest is not None and (oldest[0] < older_than_s or self.rows > keep_max)

    @property
    def any_folded(self) -> bool:
        """Whether the oldest record is folded, so that its rows can be forgotten."""
        return self._database.execute(schema.OLDEST_FOLDED, (self._folded,)).fetchone() is not None

    @property
    def rows(self) -> int:
        """How many there are. A message has one for each time that it was settled, and one while it is open."""
        folded: int = meta(self._database, "rows")
        return folded + self.recent.settled + len(self.recent.open)

    def evict(self, older_than_s: float, keep_max: int, batch: int) -> tuple[int, int]:
        """As `Ledger.evict`, of what is folded. `batch`: the most rows to be forgotten."""
        excess = self.rows - keep_max
        gone: Counter[int] = Counter()  # rows by record
        aged = early = 0
        for seq, row in self._oldest(batch):
            old = row.at_s < older_than_s
            if not old and aged + early >= excess:
                break
            gone[seq] += 1
            aged, early = aged + old, early + (not old)
        for seq, rows in gone.items():
            self._shorten(seq, rows)
        self._database.execute("UPDATE meta SET value = value - ? WHERE name = 'rows'", (aged + early,))
        oldest = self._oldest_seq()
        self._runs.forget(self._folded + 1 if oldest is None else oldest)
        return aged, early

    def _oldest(self, count: int) -> list[tuple[int, Row]]:
        """The oldest folded rows, at most so many, each with its record."""
        found: list[tuple[int, Row]] = []
        for seq, record in self._database.execute(schema.OLDEST_FOLDED, (self._folded,)):
            found += [(seq, row) for row in schema.unpack(record)]
            if len(found) >= count:
                break
        return found[:count]

    def _shorten(self, seq: int, gone: int) -> None:
        """Take the first rows from a record, and the record when that was all."""
        (record,) = self._database.execute(schema.SETTLED, (seq,)).fetchone()
        rows = schema.unpack(record)[gone:]
        if rows:
            values = (rows[0].at_s, schema.pack(rows), seq)
            self._database.execute("UPDATE settled SET at_s = ?, rows = ? WHERE seq = ?", values)
        else:
            self._database.execute("DELETE FROM settled WHERE seq = ?", (seq,))


def meta(database: sqlite3.Connection, name: str) -> Any:
    """One value of the table `meta`; None where there is none."""
    (value,) = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone() or (None,)
    return value
