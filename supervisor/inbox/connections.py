"""What `once` needs of a user's connection, and the five drivers that have it. Runs in workers.

It never begins, commits or rolls back: the transaction is the user's. It imports no driver: an object of one brings its
own module along, found in `sys.modules`. Cursors are plain ones, whatever row or cursor class the connection has.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from supervisor.inbox.dialects import MYSQL, POSTGRESQL, SQLITE, Dialect
from supervisor.messages.inbox_run import InboxError

_IDLE, _IN_ERROR = 0, 3
"""libpq's PGTransactionStatusType: PQTRANS_IDLE, PQTRANS_INERROR."""

_BEGUN = 2
"""psycopg2.extensions.STATUS_BEGIN"""

_LOOK_S = 5
"""How long a look for a row after the end of its connection may wait for the database."""

_IN_TRANSACTION = 1
"""The flag SERVER_STATUS_IN_TRANS in MySQL's protocol."""

_SAVEPOINT = "preforkd_inbox"
_NO_SAVEPOINT = ((1305,), (f"no such savepoint: {_SAVEPOINT}",))
"""What errors begin with: MySQL's ER_SP_DOES_NOT_EXIST, SQLite's text."""

_LEGACY = -1
"""sqlite3.LEGACY_TRANSACTION_CONTROL"""

_AUTOCOMMIT = "the connection is in autocommit and has no transaction: begin one, and commit it after the block"
_CLOSED = "the connection is closed"
UNCOMMITTED = "the connection was closed without a commit after the `once` block, and the handler went on: commit first"


Query = tuple[str, tuple[object, ...]]
"""A statement that answers with rows, and its parameters."""


class Connection(ABC):
    """A user's connection with a transaction, in which `once` runs its statements."""

    dialect: Dialect

    tells_rollbacks = False
    """Whether `open_until_ended` also tells that a savepoint around the block was rolled back."""

    @abstractmethod
    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run `sql`, which answers with rows; `parameters` stand for its `%s`. Raises what the driver raises."""

    @abstractmethod
    def count(self, sql: str, *parameters: object) -> int:
        """Run `sql`, which changes rows, and return their number. Raises what the driver raises."""

    @abstractmethod
    def refusal(self) -> str:
        """Why no row may be written on this connection now; "" if it may."""

    @abstractmethod
    def place(self) -> str:
        """The database by its name, for an error; the transaction may have failed."""

    @abstractmethod
    def open_until_ended(self, transaction: int, row: Query) -> Callable[[], bool]:
        """A function that tells whether the present transaction is still open; False where that cannot be told.

        `transaction`: PostgreSQL's number for it, 0 elsewhere. `row`: asks for the row that `once` has written. The
        function raises what the driver raises, and InboxError if the transaction has not committed and cannot any more.
        """

    def is_in_savepoint(self) -> bool:
        """Whether the library says so; PostgreSQL says it with the row itself."""
        return False


class DbapiConnection(Connection):
    """A `connection` of DB-API 2.0 (PEP 249)."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with closing(self.cursor()) as cursor:
            cursor.execute(self.in_style(sql), parameters)
            return [tuple(map(plain, row)) for row in cursor.fetchall()]

    def count(self, sql: str, *parameters: object) -> int:
        with closing(self.cursor()) as cursor:
            cursor.execute(self.in_style(sql), parameters)
            return int(cursor.rowcount)

    @abstractmethod
    def cursor(self) -> Any:
        """A new cursor that gives rows as tuples."""

    def set_savepoint(self) -> None:
        """Mark the present transaction."""
        self.count(f"SAVEPOINT {_SAVEPOINT}")

    def has_savepoint(self) -> bool:
        """Whether the marked transaction is still open; takes the mark away. Raises what the driver raises."""
        try:
            self.count(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        except Exception as error:  # each driver's own class
            if error.args[:1] in _NO_SAVEPOINT:
                return False
            raise
        return True

    def in_style(self, sql: str) -> str:
        """The statement `sql` with its parameters as this driver marks them."""
        return sql

    def asked_before_close(self, is_open: Callable[[], bool]) -> Callable[[], bool]:
        """`is_open` as a function that may be called after the connection was closed: it is asked before, too.

        An attribute of the connection stands before its class's `close` until then. Raises InboxError where it was
        open.
        """
        connection, was_open = self.connection, list[bool]()

        def close(*arguments: Any, **named: Any) -> Any:
            vars(connection).pop("close", None)
            with suppress(Exception):  # of a lost connection, which is told by `is_open` itself
                was_open.append(is_open())
            return connection.close(*arguments, **named)

        def ask() -> bool:
            if vars(connection).pop("close", None) is None and any(was_open):
                raise InboxError(UNCOMMITTED)
            return is_open()

        connection.close = close
        return ask


def plain(value: object) -> object:
    """The `value` from a row; psycopg2 gives bytes as a memoryview."""
    return bytes(value) if isinstance(value, memoryview | bytearray) else value


def _look(connect: Callable[[], Any], trouble: type[Exception], row: Query) -> None:
    """Ask for the `row` of a closed connection in another one. Raises InboxError if it is not there.

    `trouble`: the driver's errors. After one of these, nothing is known, and nothing is raised.
    """
    with suppress(trouble), closing(connect()) as other:
        cursor = other.cursor()
        cursor.execute(*row)
        if cursor.fetchone() is None:
            raise InboxError(UNCOMMITTED)


# ---- PostgreSQL -----------------------------------------------------------------------------------------------------


class _PostgreSQL(DbapiConnection):
    dialect = POSTGRESQL

    @abstractmethod
    def status(self) -> int:
        """libpq's status of the transaction."""

    @abstractmethod
    def is_lost(self) -> bool:
        """Whether the connection has ended by itself."""

    def refusal(self) -> str:
        if self.connection.closed:
            return _CLOSED
        if self.status() == _IN_ERROR:
            return "the transaction has failed before: roll it back, and begin with `once`"
        return _AUTOCOMMIT if self.connection.autocommit and self.status() == _IDLE else ""

    def place(self) -> str:
        return f'the PostgreSQL database "{self.connection.info.dbname}"'

    def open_until_ended(self, transaction: int, row: Query) -> Callable[[], bool]:
        return lambda: self._is_open(transaction)

    def _is_open(self, transaction: int) -> bool:
        if self.is_lost():
            raise InboxError("the connection was lost before the handler returned: its transaction may have failed")
        if self.connection.closed or self.status() == _IDLE:
            return False
        if self.status() == _IN_ERROR:
            return True
        ((now,),) = self.rows("SELECT txid_current_if_assigned()")
        return bool(now == transaction)  # else the handler has committed, and begun another one


class Psycopg(_PostgreSQL):
    """psycopg 3, `psycopg.Connection`."""

    def cursor(self) -> Any:
        return sys.modules["psycopg"].Cursor(self.connection, row_factory=lambda cursor: tuple)

    def status(self) -> int:
        return int(self.connection.info.transaction_status)

    def is_lost(self) -> bool:
        return bool(self.connection.broken)

    def open_until_ended(self, transaction: int, row: Query) -> Callable[[], bool]:
        return self.asked_before_close(super().open_until_ended(transaction, row))


class Psycopg2(_PostgreSQL):
    """psycopg2, `psycopg2.extensions.connection`."""

    def cursor(self) -> Any:
        return self.connection.cursor(cursor_factory=sys.modules["psycopg2.extensions"].cursor)

    def refusal(self) -> str:
        return "an asynchronous connection cannot be used" if self.connection.async_ else super().refusal()

    def status(self) -> int:
        return int(self.connection.get_transaction_status())

    def is_lost(self) -> bool:
        return bool(self.connection.closed > 1)

    def open_until_ended(self, transaction: int, row: Query) -> Callable[[], bool]:
        """A closed connection keeps its status: that of this transaction, or of one that was begun after its commit."""
        is_open, info = super().open_until_ended(transaction, row), self.connection.info
        place = {**info.dsn_parameters, "password": info.password, "connect_timeout": _LOOK_S}

        def ask() -> bool:
            if self.connection.closed == 1 and self.connection.status == _BEGUN:
                psycopg2 = sys.modules["psycopg2"]
                _look(lambda: psycopg2.connect(**place), psycopg2.Error, row)
                return False
            return is_open()

        return ask


# ---- MySQL and MariaDB ----------------------------------------------------------------------------------------------


class _MySQL(DbapiConnection):
    dialect = MYSQL

    def refusal(self) -> str:
        if not self.connection.open:
            return _CLOSED
        return _AUTOCOMMIT if self.connection.get_autocommit() and not self._keeps_a_savepoint() else ""

    def place(self) -> str:
        ((name,),) = self.rows("SELECT DATABASE()")
        return f'the MySQL database "{name.decode() if isinstance(name, bytes) else name}"'

    def _keeps_a_savepoint(self) -> bool:
        """Without a transaction a savepoint is gone at once (in autocommit only)."""
        self.set_savepoint()
        return self.has_savepoint()


class PyMySQL(_MySQL):
    """PyMySQL, `pymysql.connections.Connection`."""

    def cursor(self) -> Any:
        return self.connection.cursor(sys.modules["pymysql.cursors"].Cursor)

    def open_until_ended(self, transaction: int, row: Query) -> Callable[[], bool]:
        """A connection keeps the server's last flags when it is closed."""

        def is_open() -> bool:
            in_transaction = bool(self.connection.server_status & _IN_TRANSACTION)
            if in_transaction and not self.connection.open:
                raise InboxError(UNCOMMITTED)
            return in_transaction

        return is_open


class MySQLClient(_MySQL):
    """mysqlclient, `MySQLdb.connections.Connection`, which does not give the server's flags: a savepoint tells."""

    def cursor(self) -> Any:
        return self.connection.cursor(sys.modules["MySQLdb.cursors"].Cursor)

    def open_until_ended(self, transaction: int, row: Query) -> Callable[[], bool]:
        self.set_savepoint()
        return self.asked_before_close(lambda: bool(self.connection.open) and self.has_savepoint())


# ---- SQLite ---------------------------------------------------------------------------------------------------------


class Sqlite3(DbapiConnection):
    """The standard library's sqlite3, `sqlite3.Connection`."""

    dialect = SQLITE

    def cursor(self) -> Any:
        cursor = self.connection.cursor()
        cursor.row_factory = None
        return cursor

    def in_style(self, sql: str) -> str:
        return sql.replace("%s", "?")

    def refusal(self) -> str:
        if (is_open := self._in_transaction()) is None:
            return _CLOSED
        begins_itself = self.connection.isolation_level is not None and self._autocommit() == _LEGACY
        return "" if is_open or begins_itself else f'{_AUTOCOMMIT} (`db.execute("BEGIN IMMEDIATE")`)'

    def place(self) -> str:
        return f'the SQLite database "{self._file() or ":memory:"}"'

    def _file(self) -> str:
        """The path of the main database; "" for one in memory."""
        return "".join(file for _number, name, file in self.rows("PRAGMA database_list") if name == "main")

    def open_until_ended(self, transaction: int, row: Query) -> Callable[[], bool]:
        file = self._file()
        begins_again = not self._autocommit()
        if begins_again:
            self.set_savepoint()  # with autocommit=False a commit begins the next transaction

        def is_open() -> bool:
            if (in_transaction := self._in_transaction()) is None:
                self._look_into(file, row)
                return False
            return self.has_savepoint() if begins_again else in_transaction

        return is_open

    def _look_into(self, file: str, row: Query) -> None:
        if file:
            sqlite3, (sql, parameters) = sys.modules["sqlite3"], row
            place = f"{Path(file).absolute().as_uri()}?mode=ro"
            _look(
                lambda: sqlite3.connect(place, timeout=_LOOK_S, uri=True),
                sqlite3.Error,
                (self.in_style(sql), parameters),
            )

    def _autocommit(self) -> int:
        """The attribute of Python 3.12 and later: False, True, or -1 for the older way, which begins before a write."""
        return int(getattr(self.connection, "autocommit", _LEGACY))

    def _in_transaction(self) -> bool | None:
        """None for a closed connection."""
        try:
            return bool(self.connection.in_transaction)
        except sys.modules["sqlite3"].ProgrammingError:
            return None
