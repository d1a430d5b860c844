"""Ledgers of a given size, as a daemon that old would have them; made once, kept in build/ (`make clean` removes it).

Keys are random, in no order, as digests are; ids are as long as UUIDs; all rows are closed and folded, evenly spread
over the six days before the ledger was made, as many to a record as a busy consumer commits at once. One transaction,
with everything off that only matters when something dies, and with memory for the whole tree: page by page it would
take an hour.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.bench.peers import ROOT
from supervisor.ledger import schema
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.entries import MERGE_BITS, chunk_count, entry, fingerprints
from supervisor.ledger.sqlite_index import FOLD_AFTER_ROWS
from supervisor.ledger.sqlite_runs import TOP_LEVEL, write_part
from supervisor.messages.identity import DIGEST_BYTES, ID_BYTES
from supervisor.system.clock import monotonic_s, wall_s

FOLDER = ROOT / "build/bench-ledgers"
NAME = "ledger.db"
_FORM = "".join(schema.CREATE), MERGE_BITS, FOLD_AFTER_ROWS, TOP_LEVEL
_SCHEMA = hashlib.blake2b(repr(_FORM).encode(), digest_size=4).hexdigest()
_DAYS_S = 6 * 86400.0
_KEY_BYTES = ID_BYTES + DIGEST_BYTES
_RECORD_ROWS = 64
_BUILD = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA cache_size = -4000000",
)


def ledger(rows: int) -> tuple[Path, float]:
    """The folder of a pool that has a ledger with so many rows (or a few more, left by former uses), and in
    how many seconds it was made just now; 0.0 where it was there already."""
    folder = FOLDER / f"{rows}-{_SCHEMA}"
    if folder.exists():
        _leave_only_the_ledger(folder)
        return folder, 0.0
    started_s, new = monotonic_s(), FOLDER / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    with closing(sqlite3.connect(new / NAME, isolation_level=None)) as database:
        _build(database, rows)
    new.rename(folder)
    return folder, monotonic_s() - started_s


def disk_bytes(folder: Path) -> int:
    """What its ledger needs."""
    return sum(part.stat().st_size for part in folder.glob(f"{NAME}*"))


def _leave_only_the_ledger(folder: Path) -> None:
    """A log that a killed consumer has left is part of the ledger; slots and sockets are not."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith(NAME):
            path.unlink()


def _build(database: sqlite3.Connection, rows: int) -> None:
    for statement in (*_BUILD, *schema.CREATE, "BEGIN"):
        database.execute(statement)
    first_s, step_s = wall_s() - _DAYS_S, _DAYS_S / rows
    seq = done = 0
    for run, (level, size) in enumerate(_runs(rows), 1):
        first_seq, entries = seq + 1, list[int]()
        for start in range(done, done + size, _RECORD_ROWS):
            seq += 1
            some = _rows(first_s + start * step_s, step_s, min(_RECORD_ROWS, done + size - start))
            database.execute(schema.ADD_SETTLED, (seq, some[0].at_s, schema.pack(some)))
            entries += (entry(known, seq) for known in fingerprints([row.key for row in some]))
        database.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (run, level, first_seq, seq))
        write_part(database, run, sorted(entries), level, 0, chunk_count(level))
        done += size
    for name, value in (("rows", rows), ("folded", seq)):
        database.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))
    database.execute("COMMIT")
    database.execute("PRAGMA journal_mode = WAL")


def _runs(rows: int) -> Iterator[tuple[int, int]]:
    """Level and rows of the runs that so many rows have come to, the oldest first."""
    for level in range(TOP_LEVEL, -1, -1):
        size = FOLD_AFTER_ROWS << MERGE_BITS * level
        while rows >= size:
            yield level, size
            rows -= size
    if rows:
        yield 0, rows


def _rows(at_s: float, step_s: float, count: int) -> list[Row]:
    """So many rows, the first of this time."""
    keys, done = os.urandom(_KEY_BYTES * count), RowState.DONE
    return [
        Row(
            keys[place : place + _KEY_BYTES],
            1,
            1,
            done,
            0,
            1,
            at_s + number * step_s,
            _id(keys[place : place + _KEY_BYTES].hex()),
        )
        for number, place in enumerate(range(0, len(keys), _KEY_BYTES))
    ]


def _id(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-{digits[18:30]}"
