"""The ledger on SQLite (WAL), in the consumer process; the only ledger there is.

One transaction per loop turn, durable when `commit` returns. The file belongs to one consumer at a time: a lock file
beside it, and SQLite's exclusive mode (no shared memory file, no lock calls per transaction).
After any error it is closed and never tried again: whether a failed commit is on disk is known only after reopening
(a failed fsync may have written it), so it must not be repeated blindly.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supervisor.clock import monotonic_s
from supervisor.errors import LedgerError, LedgerUnusable
from supervisor.identity import DIGEST_BYTES, ID_BYTES
from supervisor.ledger import schema
from supervisor.ledger.base import Ledger, Row
from supervisor.locks import FileLock, LockHeld
from supervisor.posix import boot_id

EVICT_BATCH = 500
"""Rows that one `evict` forgets at most, so that it never holds up a loop turn for long."""

_CHECKPOINT_PAGES = 8000  # 32 MiB: keys are random, so a rarer checkpoint writes fewer pages twice
_CACHE_KIB = 16 * 1024
_BUSY_S = 1.0
_FILES = ("", "-wal")
"""What is added to the ledger's path: SQLite keeps what is not yet in the one in the other."""
_LAST_DIGEST = b"\xff" * DIGEST_BYTES

_FULL = "the disk is full", "free some space"
_DENIED = "no permission", "make the file and its folder belong to the user that preforkd runs as"
_DAMAGED = (
    "the file is damaged or no ledger",
    "move it and its -wal file away; messages that only it knew to be done may run again",
)
_BUSY = "another program has it open", "close that program (a sqlite3 shell, a backup)"
_DISK_FAILS = "the disk fails", "look into the kernel's log"
_ADVICE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_PERM: _DENIED,
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_CANTOPEN: _DENIED,
    sqlite3.SQLITE_AUTH: _DENIED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_IOERR: _DISK_FAILS,
}
"""What SQLite's primary result codes (low byte, https://sqlite.org/rescode.html) mean to an operator; what to do."""
_LASTING = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SqliteLedger(Ledger):
    """The ledger in `path`, made when missing; `sync` is "full" (survives power loss) or "normal" (process death).

    Raises LedgerError: in use by another consumer, no permission, disk full; LedgerUnusable: damaged, other version.
    """

    def __init__(self, path: Path, sync: str) -> None:
        self._path = path
        self._last_commit_s = 0.0
        self._lock = _take_lock(path)
        try:
            with errors_explained(path):
                self._database = _open(path, sync)
                last_boot = _meta(self._database, "boot_id")
        except LedgerError:
            self._lock.close()
            raise
        self._boot_id = boot_id()
        self._rebooted = last_boot is not None and last_boot != self._boot_id
        self._unproven = None if last_boot == self._boot_id else {row.key for row in self.open_rows()}

    @property
    def rebooted(self) -> bool:
        """Whether open rows may be of an earlier boot; stays so for later openings until each was written again."""
        return self._rebooted

    @property
    def last_commit_s(self) -> float:
        return self._last_commit_s

    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
        with self._usable() as database:
            return {key: rows_of_id(database, key) for key in keys}

    def open_rows(self) -> list[Row]:
        with self._usable() as database:
            return _rows(database, schema.OPEN_ROWS, ())

    def find(self, message_id: str) -> list[Row]:
        with self._usable() as database:
            return _rows(database, schema.FIND, (message_id,))

    def counters(self) -> dict[str, int]:
        with self._usable() as database:
            return dict(database.execute("SELECT name, value FROM counters"))

    def commit(self, rows: Iterable[Row], counters: Mapping[str, int]) -> None:
        started_s = monotonic_s()
        written = [schema.columns(row) for row in rows]
        with self._transaction() as database:
            database.executemany(schema.SET_ROW, written)
            database.executemany(schema.ADD_TO_COUNTER, counters.items())
            # fail-point: consumer.rows-written: in the transaction, which is not committed
            self._prove_boot(database, written)
        self._last_commit_s = monotonic_s() - started_s

    def evict(self, older_than_s: float, keep_max: int) -> tuple[int, int]:
        with self._transaction() as database:
            aged = database.execute(schema.EVICT_AGED, (older_than_s, EVICT_BATCH)).rowcount
            excess = min(_meta(database, "rows") - keep_max, EVICT_BATCH - aged)
            early = database.execute(schema.EVICT_OLDEST, (excess,)).rowcount if excess > 0 else 0
        return aged, early

    def size(self) -> tuple[int, int]:
        with self._usable() as database:
            return _meta(database, "rows"), sum(_bytes(self._path.with_name(self._path.name + end)) for end in _FILES)

    def close(self) -> None:
        with suppress(sqlite3.Error):  # what was committed is safe; the rest must not hold up leaving
            self._database.close()
        self._lock.close()

    def _prove_boot(self, database: sqlite3.Connection, written: list[tuple[Any, ...]]) -> None:
        """Name this boot as the writer of all open rows, once it is (I4: until then marks prove nothing)."""
        if self._unproven is None:
            return
        self._unproven.difference_update(values[0] for values in written)
        if not self._unproven:
            database.execute("UPDATE meta SET value = ? WHERE name = 'boot_id'", (self._boot_id,))
            self._unproven = None

    @contextmanager
    def _usable(self) -> Iterator[sqlite3.Connection]:
        """The database; the first error closes it, and every later call fails."""
        try:
            with errors_explained(self._path):
                yield self._database
        except LedgerError:
            with suppress(sqlite3.Error):
                self._database.close()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._usable() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")


def _take_lock(path: Path) -> FileLock:
    lock_path = path.with_suffix(".lock")
    try:
        return FileLock(lock_path)
    except LockHeld as held:
        raise LedgerError(
            f"{path}: in use by another consumer (pid {held.holder}): a ledger has one user at a time; "
            "end that process, or give this daemon a state_dir of its own"
        ) from None
    except OSError as error:
        raise LedgerError(f"{lock_path}: {error.strerror}: the ledger's folder must be there and writable") from None


def _open(path: Path, sync: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {sync}")
        database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        _make_or_check_tables(database, path)
    except (sqlite3.Error, LedgerError):
        database.close()
        raise
    return database


def _make_or_check_tables(database: sqlite3.Connection, path: Path) -> None:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
    if not tables:
        database.execute("BEGIN IMMEDIATE")
        for statement in schema.CREATE:
            database.execute(statement)
        database.execute("COMMIT")
        return
    version = _meta(database, "schema") if "meta" in tables else None
    if version != schema.VERSION:
        raise LedgerUnusable(
            f"{path}: written by another version of preforkd (schema {version}, this one knows {schema.VERSION}): "
            "run that version, or move the file and its -wal file away"
        )


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _meta(database: sqlite3.Connection, name: str) -> Any:
    (value,) = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone() or (None,)
    return value


def _rows(database: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> list[Row]:
    return [schema.row_of(found) for found in database.execute(query, values)]


def rows_of_id(database: sqlite3.Connection, key: bytes) -> list[Row]:
    """The rows from the first to the last key that any content with this id can have."""
    return _rows(database, schema.ROWS_OF_ID, (key[:ID_BYTES], key[:ID_BYTES] + _LAST_DIGEST))


@contextmanager
def errors_explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the ledger in `path` into LedgerErrors that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        reason, advice = _ADVICE.get(code, ("it cannot be used", "it has to be opened again"))
        kind = LedgerUnusable if code in _LASTING else LedgerError
        raise kind(f"{path}: {reason} ({error}): {advice}") from error
