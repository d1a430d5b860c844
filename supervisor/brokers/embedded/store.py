"""The embedded queue's file: every queue of a state directory in one SQLite database (WAL), shared by processes.

Used by consumers and by the command line, never by master or workers. Messages leave in the order of (ready_at_s, id).
A queue's `seen` pair is the last message ever delivered from it, in that order: whatever is not beyond it may have
been delivered before (`redelivered`), also after a crash, at the price of one small write per batch.
Times are the file's own (`system/clock.py`: a set clock delays and reorders nothing), and are
taken inside the write transaction, so that the order of publications is the order of their commits.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from supervisor.messages.field_tables import pack_properties, unpack_properties
from supervisor.messages.message import Properties, Publication
from supervisor.system.clock import Anchor, anchored, wall_s
from supervisor.system.posix import boot_id, start_ticks

FILE_NAME = "embedded.db"

_VERSION = 1
_BUSY_S = 2.0
_PERSISTENT = 2  # AMQP's delivery_mode; the embedded queue has no other
_CREATE = (
    """CREATE TABLE queues (name TEXT PRIMARY KEY, seen_s REAL NOT NULL DEFAULT 0, seen_id INTEGER NOT NULL DEFAULT 0)
        WITHOUT ROWID""",
    # AUTOINCREMENT: an id is never used again, so an old number settles no other message
    """CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, ready_at_s REAL NOT NULL,
        lease TEXT, properties BLOB NOT NULL, body BLOB NOT NULL)""",
    "CREATE INDEX in_order ON messages (queue, ready_at_s, id)",
    "CREATE INDEX leased ON messages (lease) WHERE lease IS NOT NULL",
    f"PRAGMA user_version = {_VERSION}",
)
_CREATE_CLOCK = """CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY CHECK (one = 1), boot_id TEXT NOT NULL,
    offset_s REAL NOT NULL, latest_s REAL NOT NULL)"""
_LATEST_EVERY_S = 10.0
"""How often the time of publications is noted in the clock: after a boot with a wrong clock time goes on from there."""
_PUBLISH = """INSERT INTO messages (queue, ready_at_s, properties, body)
    SELECT name, ?, ?, ? FROM queues WHERE name = ?"""
_FREE_IDS = """SELECT id FROM messages WHERE queue = ? AND ready_at_s <= ? AND lease IS NULL
    ORDER BY ready_at_s, id LIMIT ?"""

_LASTING = {
    sqlite3.SQLITE_PERM: "no permission: make it belong to the user that preforkd runs as",
    sqlite3.SQLITE_READONLY: "no permission to write: make it belong to the user that preforkd runs as",
    sqlite3.SQLITE_CORRUPT: "it is damaged: move it away (with its -wal file) to begin with empty queues",
    sqlite3.SQLITE_NOTADB: "it is not an embedded queue: move it away to begin with empty queues",
}
_PASSING = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_BUSY: "another program holds it: close that program (a sqlite3 shell, a backup)",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: is its folder there, writable, and the disk not full?",
}
"""SQLite's primary result codes (https://sqlite.org/rescode.html): those that waiting does not heal, and others."""


class StoreError(Exception):
    """The file cannot be used; the text says why and what to do. `lasting`: waiting will not heal it."""

    def __init__(self, text: str, lasting: bool) -> None:
        super().__init__(text)
        self.lasting = lasting


class Stored(NamedTuple):
    """A message in the file."""

    id: int
    redelivered: bool
    properties: Properties
    body: bytes


class Store:
    """One connection to the file in `state_dir`, which is made when missing. Raises StoreError.

    Changes are asked for within `transaction()`; questions within it or `guarded()`, so that errors become StoreError.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME
        self._synchronous = ""
        self._noted_s = 0.0
        with self.guarded():
            _create_for_owner(self._path, state_dir)
            self._database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
            try:
                self._prepare()
                self._version = self._data_version()
            except (sqlite3.Error, StoreError):
                self._database.close()
                raise

    def close(self) -> None:
        """Close the file; an open transaction is rolled back."""
        with suppress(sqlite3.Error):
            self._database.close()

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[None]:
        """One transaction, one writer at a time. Not `durable`: a power loss may undo it, kill -9 does not."""
        with self.guarded():
            self._synchronize("FULL" if durable else "NORMAL")
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # some errors have undone it already
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Raise errors of SQLite and the disk as StoreError."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
            text = _LASTING.get(code) or _PASSING.get(code) or "it cannot be used"
            raise StoreError(f"{self._path}: {text} ({error})", lasting=code in _LASTING) from error
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}", lasting=False) from error

    @property
    def now_s(self) -> float:
        """The file's time, to which `ready_at_s` is compared. It never steps back."""
        return self._clock.now_s

    def changed(self) -> bool:
        """Whether another connection has written since this was last asked."""
        with self.guarded():
            version = self._data_version()
        before, self._version = self._version, version
        return version != before

    # ---- queues ---------------------------------------------------------------------------------------------------

    def has_queue(self, queue: str) -> bool:
        """Whether there is such a queue."""
        return self._database.execute("SELECT 1 FROM queues WHERE name = ?", (queue,)).fetchone() is not None

    def ensure_queues(self, queues: Iterable[str]) -> None:
        """Make those `queues` that are missing."""
        self._database.executemany("INSERT OR IGNORE INTO queues (name) VALUES (?)", [(name,) for name in queues])

    def delete_queue(self, queue: str) -> None:
        """Delete a queue and all that is in it, leased or not."""
        self._database.execute("DELETE FROM queues WHERE name = ?", (queue,))
        self._database.execute("DELETE FROM messages WHERE queue = ?", (queue,))

    def ready(self, queue: str) -> int:
        """The number of messages that are due, leased ones included."""
        query = "SELECT count(*) FROM messages WHERE queue = ? AND ready_at_s <= ?"
        return int(self._database.execute(query, (queue, self.now_s)).fetchone()[0])

    def next_ready_s(self, queue: str, now_s: float) -> float | None:
        """When, after `now_s`, the next delayed message becomes ready (as `now_s` counts); None without one."""
        query = "SELECT min(ready_at_s) FROM messages WHERE queue = ? AND ready_at_s > ?"
        found: float | None = self._database.execute(query, (queue, now_s)).fetchone()[0]
        return found

    # ---- messages -------------------------------------------------------------------------------------------------

    def publish(self, publication: Publication, delay_s: float = 0.0) -> str:
        """Put a message into the queue `routing_key`; "" or why not (then nothing was done)."""
        if publication.exchange:
            return f"no such exchange {publication.exchange!r}: the embedded queue has only the default one"
        properties = msgspec.structs.replace(publication.properties, delivery_mode=_PERSISTENT)
        now_s = self.now_s
        if now_s >= self._noted_s + _LATEST_EVERY_S:
            self._database.execute("UPDATE clock SET latest_s = ?", (now_s,))
            self._noted_s = now_s
        done = self._database.execute(
            _PUBLISH,
            (now_s + delay_s, pack_properties(properties), publication.body, publication.routing_key),
        )
        return "" if done.rowcount == 1 else f"no such queue {publication.routing_key!r}"

    def fetch(self, queue: str, held: Collection[int], limit: int, now_s: float) -> list[Stored]:
        """The first `limit` messages that are ready and neither `held` nor leased; they count as delivered from now on.

        The scan begins at the queue's head each time: it meets at most `held` in vain, and needs no memory of its own
        that a stepped clock, a returned or a deleted message could put wrong.
        """
        found = self._database.execute(_FREE_IDS, (queue, now_s, len(held) + limit))
        ids = [id for (id,) in found if id not in held][:limit]
        seen = last = self._seen(queue)
        messages = []
        for id in ids:
            place, message = self._load(id, seen)
            messages.append(message)
            last = max(last, place)
        if last != seen:
            self._database.execute("UPDATE queues SET seen_s = ?, seen_id = ? WHERE name = ?", (*last, queue))
        return messages

    def delete(self, ids: Iterable[int]) -> None:
        """Delete the settled messages with these `ids`."""
        self._database.executemany("DELETE FROM messages WHERE id = ?", [(id,) for id in ids])

    # ---- leases ---------------------------------------------------------------------------------------------------

    def take(self, queue: str, limit: int, lease: str) -> list[Stored]:
        """Take up to `limit` ready messages under this `lease`: others get them only after its end."""
        seen = self._seen(queue)
        ids = [id for (id,) in self._database.execute(_FREE_IDS, (queue, self.now_s, limit))]
        self._database.executemany("UPDATE messages SET lease = ? WHERE id = ?", [(lease, id) for id in ids])
        return [self._load(id, seen)[1] for id in ids]

    def delete_leased(self, id: int, lease: str) -> bool:
        """Delete the message `id` if this `lease` has it; otherwise False."""
        done = self._database.execute("DELETE FROM messages WHERE id = ? AND lease = ?", (id, lease))
        return done.rowcount == 1

    def end_lease(self, lease: str) -> None:
        """Return the messages of this `lease`."""
        self._database.execute("UPDATE messages SET lease = NULL WHERE lease = ?", (lease,))

    def end_dead_leases(self) -> bool:
        """Return the messages leased by dead processes; may be called outside of a transaction, too."""
        with self.guarded():
            leases = self._database.execute("SELECT DISTINCT lease FROM messages WHERE lease IS NOT NULL").fetchall()
            dead = [lease for (lease,) in leases if not _lease_alive(lease)]
            for lease in dead:
                self.end_lease(lease)
        return bool(dead)

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("BEGIN IMMEDIATE")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables == 0:
            for statement in _CREATE:
                self._database.execute(statement)
        elif version != _VERSION:
            text = f"written by another version of preforkd (schema {version}, this one knows {_VERSION})"
            raise StoreError(f"{self._path}: {text}: run that version, or move the file away", lasting=True)
        self._clock = self._wind_clock()
        self._database.execute("COMMIT")

    def _wind_clock(self) -> Anchor:
        """The file's clock, as it goes on from now. After a boot it takes the wall clock's word for the time that the
        machine was off, but never goes back: what is ready stays ready, what was delivered counts as delivered."""
        self._database.execute(_CREATE_CLOCK)
        row = self._database.execute("SELECT boot_id, offset_s, latest_s FROM clock").fetchone()
        (seen_s,) = self._database.execute("SELECT ifnull(max(seen_s), 0) FROM queues").fetchone()
        former, latest_s = (Anchor(*row[:2]), max(row[2], seen_s)) if row else (None, seen_s)
        anchor = anchored(former, boot_id(), latest_s, begin_s=wall_s())
        if anchor != former:
            self._database.execute("REPLACE INTO clock VALUES (1, ?, ?, ?)", (*anchor, latest_s))
        return anchor

    def _seen(self, queue: str) -> tuple[float, int]:
        query = "SELECT seen_s, seen_id FROM queues WHERE name = ?"
        seen_s, seen_id = self._database.execute(query, (queue,)).fetchone() or (0.0, 0)
        return seen_s, seen_id

    def _load(self, id: int, seen: tuple[float, int]) -> tuple[tuple[float, int], Stored]:
        query = "SELECT ready_at_s, properties, body FROM messages WHERE id = ?"
        ready_at_s, properties, body = self._database.execute(query, (id,)).fetchone()
        place = (ready_at_s, id)
        return place, Stored(id, place <= seen, unpack_properties(properties), body)

    def _data_version(self) -> int:
        return int(self._database.execute("PRAGMA data_version").fetchone()[0])

    def _synchronize(self, synchronous: str) -> None:
        if synchronous != self._synchronous:
            self._database.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous


def new_lease(nonce: str) -> str:
    """The name of a lease of this process, made unique by `nonce`; it ends with the process."""
    return f"{os.getpid()}:{start_ticks(os.getpid())}:{nonce}"


def _lease_alive(lease: str) -> bool:
    pid, ticks, _nonce = lease.split(":")
    return str(start_ticks(int(pid))) == ticks


def _create_for_owner(path: Path, owner_of: Path) -> None:
    """Make the file before SQLite does: private, and the daemon's also when root publishes first."""
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
        try:
            owner = owner_of.stat()
            if os.geteuid() == 0:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)
