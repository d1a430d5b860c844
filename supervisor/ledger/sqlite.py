"""The ledger on SQLite (WAL), in the consumer process.

One transaction per loop turn, made durable by a sync of the log (`syncing.py`); SQLite itself syncs at checkpoints
only, in the order that keeps the file whole. The file belongs to one consumer at a time: a lock file beside it, and
SQLite's exclusive mode (no shared memory file, no lock calls per transaction).
After any error it is closed and never tried again: whether a failed commit is on disk is known only after reopening
(a failed fsync may have written it), so it must not be repeated blindly.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from supervisor.errors import LedgerError, LedgerUnusable
from supervisor.ledger import schema
from supervisor.ledger.base import GRANTED, Damaged, Ledger, Result, Row
from supervisor.ledger.sqlite_index import Index, meta
from supervisor.ledger.syncing import Sync, begin_syncing
from supervisor.ledger.witness import Mark
from supervisor.system.clock import Anchor, anchored, wall_s
from supervisor.system.locks import FileLock, LockHeld
from supervisor.system.posix import boot_id

EVICT_BATCH = 500
"""Rows that one `evict` forgets at most, so that it never holds up a loop turn for long."""

LOOK_BACK_ROWS = 500
"""Rows that one `settled_before` unpacks, or a record more: about a millisecond."""

_CHECKPOINT_PAGES = 2000  # 8 MiB: some 10,000 messages; a turn waits for it
_CACHE_KIB = 4 * 1024  # written in sequence, and hardly read
_BUSY_S = 1.0
_FILES = ("", "-wal")
"""What is added to the ledger's path: SQLite keeps what is not yet in the one in the other."""

_FULL = "the disk is full", "free some space"
_DENIED = "no permission", "make the file and its folder belong to the user that preforkd runs as"
_DAMAGED = (
    "the file is damaged or no ledger",
    "move it and its -wal file away; finished messages may run again",
)
_BUSY = "another program has it open", "close that program (a sqlite3 shell, a backup)"
_DISK_FAILS = "the disk fails", "read the kernel's log"
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
        self._sync: Sync | None = None
        self._syncing = False  # the last commit is not durable yet
        self._failed = False
        self._boot_id = boot_id()
        self._held = ExitStack()  # lock and log: what `detach` gives up
        with errors_explained(path), ExitStack() as undo:
            undo.enter_context(self._held)
            self._held.callback(_take_lock(path).close)
            self._database = _open(path)
            undo.callback(self._database.close)
            self._index = Index(self._database)
            self._seq: int = self._database.execute(schema.LAST_SEQ).fetchone()[0]
            self._clock = self._wind_clock()
            last_epoch, last_boot = meta(self._database, "epoch") or 0, meta(self._database, "boot_id")
            self._epoch: int = last_epoch + (last_boot != self._boot_id)
            self._record = self._seq  # that is committed
            self._doubt_until_s: float = meta(self._database, "doubt_until_s") or 0.0
            if sync == "full":
                log = os.open(path.with_name(f"{path.name}-wal"), os.O_RDONLY | os.O_CLOEXEC)
                self._held.callback(os.close, log)
                self._sync = begin_syncing(log)
                self._held.callback(self._sync.close)
            self.found = self._begin_session()
            undo.pop_all()

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(self._path.with_name(self._path.name + end) for end in _FILES)

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def now_s(self) -> float:
        return self._clock.now_s

    @property
    def mark(self) -> Mark:
        return Mark(self.found.ledger, self.found.session + 1, self._record)

    @property
    def doubtful(self) -> bool:
        return self.now_s < self._doubt_until_s

    def doubt(self, until_s: float) -> None:
        with self._transaction() as database:
            database.execute(schema.SET_META, ("doubt_until_s", until_s))
        self._doubt_until_s = until_s

    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
        with self._usable():
            return self._index.look_up(keys)

    def open_rows(self) -> list[Row]:
        with self._usable():
            return sorted(self._index.recent.open.values(), key=_at_s)

    def settled_before(self, place: int | None, since_s: float) -> tuple[list[Row], int | None]:
        with self._usable():
            return self._index.settled_before(self._seq + 1 if place is None else place, since_s, LOOK_BACK_ROWS)

    def counters(self) -> dict[str, int]:
        with self._usable() as database:
            return dict(database.execute("SELECT name, value FROM counters"))

    def submit(self, rows: Mapping[bytes, Row], counters: Mapping[str, int]) -> None:
        """The lock keeps other owners out: nothing is ever refused."""
        begun: list[Row] = []
        settled: list[Row] = []
        for row in rows.values():
            (begun if row.state.open else settled).append(row)
        with self._transaction() as database:
            self._add(begun, settled)
            database.executemany(schema.ADD_TO_COUNTER, counters.items())
            # fail-point: consumer.rows-written: in the transaction, which is not committed
            self._add(self._index.work(len(settled), self._seq), [])
        self._begin_sync()

    def fileno(self) -> int | None:
        return None if self._sync is None else self._sync.fileno()

    def results(self) -> Result | None:
        if self._sync is None or not self._syncing:
            return GRANTED
        try:
            self._syncing = not self._sync.ended()
        except OSError:
            with self._usable():
                raise
        return None if self._syncing else GRANTED

    def evict(self, older_than_s: float, keep_max: int) -> tuple[int, int]:
        with self._usable():
            if not self._index.evictable(older_than_s, keep_max):
                return 0, 0
        with self._transaction():
            if not self._index.any_folded:
                self._add(self._index.fold(self._seq), [])
            return self._index.evict(older_than_s, keep_max, EVICT_BATCH)

    def size(self) -> tuple[int, int]:
        with self._usable():
            return self._index.rows, sum(_bytes(file) for file in self.files)

    def close(self) -> None:
        self.detach()
        with suppress(sqlite3.Error):  # what was committed is safe; the rest must not hold up leaving
            self._database.close()

    def detach(self) -> None:
        """SQLite removes by name, as it closes, the log of whatever is there now: so the database stays open."""
        self._sync = None
        self._held.close()

    def write_again(self) -> None:
        if self._path.exists():
            return
        fresh = self._path.with_name(f"{self._path.name}.fresh")
        with errors_explained(self._path):
            fresh.unlink(missing_ok=True)
            with closing(sqlite3.connect(fresh)) as database:
                self._database.backup(database)
            self._path.with_name(f"{self._path.name}-wal").unlink(missing_ok=True)
            fresh.rename(self._path)

    def _add(self, begun: list[Row], settled: list[Row]) -> None:
        """Append rows; those of one record in the order of their times, so that its oldest can be forgotten first."""
        for rows in schema.in_records(begun):
            self._seq += 1
            self._database.execute(schema.ADD_BEGUN, (self._seq, schema.pack(rows)))
            self._index.recent.begin(self._seq, rows)
        settled.sort(key=_at_s)
        for rows in schema.in_records(settled):
            self._seq += 1
            self._database.execute(schema.ADD_SETTLED, (self._seq, rows[0].at_s, schema.pack(rows)))
            self._index.recent.settle(self._seq, rows)

    def _wind_clock(self) -> Anchor:
        """The ledger's clock, as it goes on from now; kept once a boot. The time that the machine was off is not
        counted: a row may be kept longer for it, but never forgotten by a clock that is wrong at boot."""
        known = [row.at_s for row in self._index.recent.open.values()]
        known += [at_s for (at_s,) in self._database.execute(schema.LATEST)]
        boot, offset_s = meta(self._database, "clock_boot_id"), meta(self._database, "clock_offset_s")
        former = Anchor(boot, offset_s) if boot else None
        latest_s = max(known, default=0.0)
        anchor = anchored(former, self._boot_id, latest_s, begin_s=latest_s if known else wall_s())
        if anchor != former:
            values = (("clock_boot_id", anchor.boot_id), ("clock_offset_s", anchor.offset_s))
            self._database.executemany(schema.SET_META, values)
        return anchor

    def _begin_session(self) -> Mark:
        """Count this opening, durably; a new ledger is given its name, another boot its epoch. Returns the mark that
        it had before."""
        name, sessions = meta(self._database, "ledger") or uuid4().hex, meta(self._database, "session") or 0
        known = {"ledger": name, "session": sessions + 1, "boot_id": self._boot_id, "epoch": self._epoch}
        with self._transaction() as database:
            database.executemany(schema.SET_META, known.items())
        self._begin_sync()
        self._wait_for_results()
        return Mark(name, sessions, self._record)

    def _begin_sync(self) -> None:
        if self._sync is not None:
            with self._usable():
                self._sync.begin()
            self._syncing = True

    @contextmanager
    def _usable(self) -> Iterator[sqlite3.Connection]:
        """The database; the first error closes it, and every later call fails."""
        if self._failed:
            raise LedgerError(f"{self._path}: it failed before: it has to be opened again")
        try:
            with errors_explained(self._path):
                yield self._database
        except LedgerError:
            self._failed = True
            with suppress(sqlite3.Error):
                self._database.close()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._usable() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
            self._record = self._seq


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


def _open(path: Path) -> sqlite3.Connection:
    """The database. What a predecessor left in its log is first written into the database: after a failed fsync(2) the
    kernel takes pages for written that are not, and no later sync of the log would write them. All that was committed
    after them would be lost with the power."""
    database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # at checkpoints; what a commit needs, `syncing.py` does
        database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
        if tables:
            _check_version(database, path, tables)
            database.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        else:
            _make_tables(database)
    except (sqlite3.Error, LedgerError):
        database.close()
        raise
    return database


def _make_tables(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    for statement in schema.CREATE:
        database.execute(statement)
    database.execute("COMMIT")


def _check_version(database: sqlite3.Connection, path: Path, tables: set[str]) -> None:
    version = meta(database, "schema") if "meta" in tables else None
    if version != schema.VERSION:
        raise LedgerUnusable(
            f"{path}: written by another version of preforkd (schema {version}, this one knows {schema.VERSION}): "
            "run that version, or move the file and its -wal file away"
        )


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _at_s(row: Row) -> float:
    return row.at_s


@contextmanager
def errors_explained(path: Path) -> Iterator[None]:
    """Raises SQLite's errors about the ledger in `path` as LedgerError, or LedgerUnusable, that say what to do."""
    try:
        yield
    except Damaged as error:
        raise LedgerUnusable(f"{path}: {_DAMAGED[0]} ({error}): {_DAMAGED[1]}") from error
    except OSError as error:
        raise LedgerError(f"{path}: {_DISK_FAILS[0]} ({error}): {_DISK_FAILS[1]}") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        reason, advice = _ADVICE.get(code, ("it cannot be used", "it has to be opened again"))
        kind = LedgerUnusable if code in _LASTING else LedgerError
        raise kind(f"{path}: {reason} ({error}): {advice}") from error
