"""One message's row in the inbox: the statements of `once`, and what their failures mean. Runs in workers.

The insert is the exclusion: another run of the message waits in it until this transaction has ended, also where this
client is dead and its server has not noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from supervisor.inbox.connections import Connection
from supervisor.inbox.dialects import IDENTITY_BYTES, IDENTITY_KEY, TABLE
from supervisor.inbox.errors import InboxBusy
from supervisor.inbox.faults import Fault, fault_of
from supervisor.inbox.stored import OPEN
from supervisor.inbox.waiting import bounded_wait
from supervisor.messages.inbox_run import InboxError


class Earlier(NamedTuple):
    """The attempt whose transaction has committed the row. `publications`: bytes of `stored.py`."""

    attempt: int
    host: str
    publications: bytes | None


class Row:
    """The row (`key`, `round`) on a user's connection."""

    def __init__(self, db: Connection, key: bytes, round: int) -> None:
        self._db = db
        self._key = (key, round)
        self._transaction = 0
        self._is_in_savepoint = False

    def identity(self) -> bytes:
        """The identity of the database, 16 bytes. Raises InboxError if the table or its first row is missing."""
        with self._explained():
            if self._db.dialect.lock:
                self._db.count(self._db.dialect.lock)
            found = self._db.rows(self._db.dialect.identity, IDENTITY_KEY)
        if not found or found[0][0] is None or len(found[0][0]) != IDENTITY_BYTES:
            raise InboxError(
                f"once: {TABLE} in {self._db.place()} has not its first row, the identity of the database: "
                f"{self._remedy()}"
            )
        return bytes(found[0][0])

    def insert(self, attempt: int, host: str, longest_wait_s: float | None) -> bool:
        """Write the row of this `attempt`; False if one is there, committed by an earlier attempt.

        Waits for another transaction that has written it and has not ended, at most `longest_wait_s`. Raises InboxBusy
        if it had not ended then, or if it has made this transaction impossible.
        """
        values = (*self._key, attempt, host, OPEN)
        with self._explained(), bounded_wait(self._db, longest_wait_s):
            if not self._db.dialect.returns_rows:
                return self._inserted(values)
            found = self._db.rows(self._db.dialect.insert, *values)
        for transaction, is_in_savepoint in found:
            self._transaction, self._is_in_savepoint = transaction, is_in_savepoint
        return bool(found)

    def refuse_savepoint(self) -> None:
        """Raise InboxError if the row was written in a savepoint whose rollback would not be noticed."""
        if (self._is_in_savepoint or self._db.is_in_savepoint()) and not self._db.tells_rollbacks:
            raise InboxError(
                "once: the transaction is in a savepoint (a nested transaction): its rollback would take the row back, "
                "and the message would still count as done; use `once` around the savepoint"
            )

    def earlier(self) -> Earlier:
        """What the attempt that has committed has written. Raises InboxBusy if the row has gone meanwhile."""
        with self._explained():
            found = self._db.rows(self._db.dialect.read, *self._key)
        if not found:
            raise InboxBusy(reason=f"the row of an earlier attempt in {TABLE} is gone; the next attempt asks again")
        ((attempt, host, publications),) = found
        return Earlier(attempt, host.decode() if isinstance(host, bytes) else host, publications)

    def finish(self, publications: bytes | None) -> None:
        """Write `publications`, those of the block. Raises InboxError if a rollback has taken the row."""
        parameters = (publications, *self._key)
        if self._db.dialect.returns_rows:
            changed = len(self._db.rows(self._db.dialect.finish, *parameters))
        else:
            changed = self._db.count(self._db.dialect.finish, *parameters)
        if changed != 1:
            raise InboxError(
                "once: the transaction was rolled back inside of the block, so that the row of the inbox is gone: "
                "let an exception leave the block instead"
            )

    def open_until_ended(self) -> Callable[[], bool]:
        """A function that tells whether the row's transaction is still open."""
        return self._db.open_until_ended(self._transaction, (self._db.dialect.read, self._key))

    def _inserted(self, values: tuple[object, ...]) -> bool:
        try:
            return self._db.count(self._db.dialect.insert, *values) == 1
        except Exception as error:  # each driver's own class
            if fault_of(error) is Fault.DUPLICATE:
                return False
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Locks that were not free, and a missing table, as exceptions of the inbox."""
        try:
            yield
        except Exception as error:  # each driver's own class
            fault = fault_of(error)
            if fault is Fault.MISSING:
                raise InboxError(f"once: {self._db.place()} has no table {TABLE}: {self._remedy()}") from error
            if fault is Fault.BUSY:
                raise InboxBusy(reason=f"another transaction holds what `once` needs: {error}") from error
            raise

    def _remedy(self) -> str:
        return f"`preforkd inbox sql --dialect {self._db.dialect.name}` prints the statements that make it"
