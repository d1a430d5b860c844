"""What an exception of a database driver means for the inbox: one table of codes for each family of drivers. Pure.

Runs in workers. The drivers' own classes are not needed for it, so that no driver is imported: PostgreSQL's drivers
carry the SQLSTATE, MySQL's the error number, sqlite3 SQLite's result code.
"""

from __future__ import annotations

from enum import Enum, auto


class Fault(Enum):
    """The kinds that `once` tells apart; OTHER goes to the handler as it is."""

    BUSY = auto()  # a lock was not free in time, or this transaction had to give way
    MISSING = auto()  # there is no table
    DUPLICATE = auto()  # the row is there
    OTHER = auto()


_SQLSTATES = {
    "55P03": Fault.BUSY,  # lock_not_available
    "40001": Fault.BUSY,  # serialization_failure
    "40P01": Fault.BUSY,  # deadlock_detected
    "57014": Fault.BUSY,  # query_canceled: a statement_timeout while it waited
    "42P01": Fault.MISSING,  # undefined_table
}
"""https://www.postgresql.org/docs/15/errcodes-appendix.html"""

_NUMBERS = {
    1205: Fault.BUSY,  # ER_LOCK_WAIT_TIMEOUT
    1213: Fault.BUSY,  # ER_LOCK_DEADLOCK
    1020: Fault.BUSY,  # ER_CHECKREAD: MariaDB with innodb_snapshot_isolation
    1317: Fault.BUSY,  # ER_QUERY_INTERRUPTED
    1969: Fault.BUSY,  # ER_STATEMENT_TIMEOUT: MariaDB's max_statement_time
    3024: Fault.BUSY,  # ER_QUERY_TIMEOUT: MySQL's max_execution_time
    1146: Fault.MISSING,  # ER_NO_SUCH_TABLE
    1062: Fault.DUPLICATE,  # ER_DUP_ENTRY
}
"""https://mariadb.com/kb/en/mariadb-error-code-reference/"""

_RESULTS = {5: Fault.BUSY, 6: Fault.BUSY}  # SQLITE_BUSY, SQLITE_LOCKED
"""https://www.sqlite.org/rescode.html: the lowest byte of an extended result code is the primary one."""

_NO_TABLE = "no such table"  # SQLite's code for it is that of every wrong statement


def fault_of(error: BaseException) -> Fault:
    """The kind of an exception of a driver, also one within an exception of SQLAlchemy (`orig`) or Django (cause)."""
    for candidate in (error, getattr(error, "orig", None), error.__cause__):
        if isinstance(candidate, BaseException) and (kind := _kind(candidate)) is not Fault.OTHER:
            return kind
    return Fault.OTHER


def _kind(error: BaseException) -> Fault:
    if type(error).__module__ == "sqlite3":
        result = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return Fault.MISSING if str(error).startswith(_NO_TABLE) else _RESULTS.get(result, Fault.OTHER)
    if any(kind.__name__ == "MySQLError" for kind in type(error).__mro__):  # PyMySQL and mysqlclient
        number = error.args[0] if error.args else None
        return _NUMBERS.get(number, Fault.OTHER) if isinstance(number, int) else Fault.OTHER
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)  # psycopg, psycopg2
    return _SQLSTATES.get(state, Fault.OTHER) if isinstance(state, str) else Fault.OTHER
