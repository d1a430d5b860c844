"""Finds out what a handler has given to `once`: a table from the class of the object to the code for it.

Runs in workers. Classes are compared by name, so that nothing is imported that user code has not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from supervisor.inbox.connections import (
    Connection,
    DbapiConnection,
    MySQLClient,
    Psycopg,
    Psycopg2,
    PyMySQL,
    Sqlite3,
)
from supervisor.inbox.frameworks import Django, SqlAlchemy
from supervisor.messages.inbox_run import InboxError

_SUPPORTED = (
    "give a connection of psycopg, psycopg2, PyMySQL, mysqlclient or sqlite3, a Session or Connection of SQLAlchemy, "
    'or for Django using="default"'
)

_DRIVERS: dict[str, Callable[[Any], DbapiConnection]] = {
    "psycopg.Connection": Psycopg,
    "psycopg2.extensions.connection": Psycopg2,
    "pymysql.connections.Connection": PyMySQL,
    "MySQLdb.connections.Connection": MySQLClient,
    "sqlite3.Connection": Sqlite3,
}


def connection_of(db: Any, using: str | None) -> Connection:
    """The connection behind `db`, or of Django's alias `using`. Raises InboxError for anything that is not supported.

    Raises what SQLAlchemy or Django raise if they cannot connect.
    """
    if using is not None:
        if db is not None:
            raise InboxError("once: give a connection or `using`, not both")
        return _django(_of_alias(using))
    return _found(db)


def _found(db: Any) -> Connection:
    for name in _names(db):
        if name in _DRIVERS:
            return _DRIVERS[name](db)
        if name in _FRAMEWORKS:
            return _FRAMEWORKS[name](db)
    kind = f"{type(db).__module__}.{type(db).__qualname__}"
    waits = "Async" in type(db).__name__ or ".asyncio" in kind
    why = "an asynchronous connection, which a handler that is called and returns cannot use" if waits else kind
    raise InboxError(f"once: this is no connection that it can use ({why}): {_SUPPORTED}")


def _names(db: Any) -> list[str]:
    """The full names of its class and of the bases."""
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in type(db).__mro__]


def _driver(connection: Any, of: str) -> DbapiConnection:
    for name in _names(connection):
        if name in _DRIVERS:
            return _DRIVERS[name](connection)
    raise InboxError(f"once: {of} uses the driver {type(connection).__module__}: {_SUPPORTED}")


# ---- frameworks -----------------------------------------------------------------------------------------------------


def _sqlalchemy(current: Callable[[], Any]) -> Connection:
    connection = current()
    if connection.closed:
        raise InboxError("once: the connection is closed")
    return SqlAlchemy(current, _driver(connection.connection.driver_connection, "SQLAlchemy's connection"))


def _django(connection: Any) -> Connection:
    connection.ensure_connection()
    return Django(connection, _driver(connection.connection, f'the database "{connection.alias}" of Django'))


def _of_alias(alias: str) -> Any:
    db = sys.modules.get("django.db")
    if db is None:
        raise InboxError("once: `using` is for Django, which is not loaded here: import it, and call `django.setup()`")
    return db.connections[alias]


_FRAMEWORKS: dict[str, Callable[[Any], Connection]] = {
    "sqlalchemy.engine.base.Connection": lambda connection: _sqlalchemy(lambda: connection),
    "sqlalchemy.orm.session.Session": lambda session: _sqlalchemy(session.connection),
    "sqlalchemy.orm.scoping.scoped_session": lambda session: _sqlalchemy(session.connection),
    "django.db.backends.base.base.BaseDatabaseWrapper": _django,
    "django.utils.connection.ConnectionProxy": lambda proxy: _django(_of_alias(proxy.alias)),
}
