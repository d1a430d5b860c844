"""Finds out what `once`, `clean` or the outbox was given: a table from the class of the object to the code for it.

Runs in workers and in processes of users. Classes are compared by name, so that nothing is imported that user code has
not.
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


def connection_of(db: Any, using: str | None, caller: str) -> Connection:
    """The connection behind `db`, or of Django's alias `using`. `caller`: what errors begin with.

    Raises InboxError for anything that is not supported, and what SQLAlchemy or Django raise if they cannot connect.
    """
    try:
        if using is None:
            return _found(db)
        if db is not None:
            raise InboxError("give a connection or `using`, not both")
        return _django(_of_alias(using))
    except InboxError as error:
        raise InboxError(f"{caller}: {error}") from None


def _found(db: Any) -> Connection:
    for name in _names(db):
        if name in _DRIVERS:
            return _DRIVERS[name](db)
        if name in _FRAMEWORKS:
            return _FRAMEWORKS[name](db)
    kind = f"{type(db).__module__}.{type(db).__qualname__}"
    is_asynchronous = "Async" in type(db).__name__ or ".asyncio" in kind
    what = "an asynchronous connection, which a function that is called and returns cannot use"
    raise InboxError(f"this is no connection that it can use ({what if is_asynchronous else kind}): {_SUPPORTED}")


def _names(db: Any) -> list[str]:
    """The full names of its class and of the bases."""
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in type(db).__mro__]


def _driver(connection: Any, of: str) -> DbapiConnection:
    for name in _names(connection):
        if name in _DRIVERS:
            return _DRIVERS[name](connection)
    raise InboxError(f"{of} uses the driver {type(connection).__module__}: {_SUPPORTED}")


# ---- frameworks -----------------------------------------------------------------------------------------------------


def _sqlalchemy(current: Callable[[], Any]) -> Connection:
    connection = current()
    if connection.closed:
        raise InboxError("the connection is closed")
    return SqlAlchemy(current, _driver(connection.connection.driver_connection, "SQLAlchemy's connection"))


def _django(connection: Any) -> Connection:
    connection.ensure_connection()
    return Django(connection, _driver(connection.connection, f'the database "{connection.alias}" of Django'))


def _of_alias(alias: str) -> Any:
    db = sys.modules.get("django.db")
    if db is None:
        raise InboxError("`using` is for Django, which is not loaded here: import it, and call `django.setup()`")
    return db.connections[alias]


_FRAMEWORKS: dict[str, Callable[[Any], Connection]] = {
    "sqlalchemy.engine.base.Connection": lambda connection: _sqlalchemy(lambda: connection),
    "sqlalchemy.orm.session.Session": lambda session: _sqlalchemy(session.connection),
    "sqlalchemy.orm.scoping.scoped_session": lambda session: _sqlalchemy(session.connection),
    "django.db.backends.base.base.BaseDatabaseWrapper": _django,
    "django.utils.connection.ConnectionProxy": lambda proxy: _django(_of_alias(proxy.alias)),
}
