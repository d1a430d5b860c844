"""Every way in which a handler may reach its database with `once`: driver, framework, settings of the connection.

A `Way` opens connections for the tests of `tests/inbox`; each test uses ids of its own in one database per server, with
the tables `preforkd_inbox` and `effects`.
"""

from __future__ import annotations

import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor import Message
from supervisor.inbox import once
from supervisor.inbox.dialects import DIALECTS, MYSQL, POSTGRESQL, SQLITE, Dialect, script
from tests.support.mariadb import MariaDB
from tests.support.postgresql import PostgreSQL

EFFECTS = "CREATE TABLE effects (id VARCHAR(200) NOT NULL)"
FOUND_ROWS = 2
"""The client flag of MySQL's protocol with which UPDATE counts the rows that it has found, not those it has changed."""


class Place(ABC):
    """A database with the inbox and the table `effects`."""

    dialect: Dialect

    @abstractmethod
    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Run a statement in a connection of its own."""

    def effects(self, id: str) -> int:
        """How often a message has had its effect."""
        ((count,),) = self.ask(f"SELECT count(*) FROM effects WHERE id = '{id}'")
        assert isinstance(count, int)
        return count


class ServerPlace(Place):
    """A database of a server."""

    def __init__(self, server: PostgreSQL | MariaDB, dialect: Dialect, with_inbox: bool = True) -> None:
        self.server, self.dialect = server, dialect
        self.name = server.new_database()
        for statement in (*(dialect.make if with_inbox else ()), EFFECTS):
            self.ask(statement)

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        return self.server.ask(self.name, sql)


class FilePlace(Place):
    """A file of SQLite's."""

    dialect = SQLITE

    def __init__(self, path: Path, with_inbox: bool = True) -> None:
        self.path = path
        connection = sqlite3.connect(path)
        connection.executescript((script(SQLITE) if with_inbox else "") + EFFECTS)
        connection.close()

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                return connection.execute(sql).fetchall()
        finally:
            connection.close()


class Use(ABC):
    """One open connection, as a handler has it. `db`: what `once` gets."""

    db: Any

    def once(self, message: Message) -> Any:
        """The block."""
        return once(message, self.db)

    @abstractmethod
    def run(self, sql: str) -> None:
        """Run a statement in the transaction."""

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def rollback(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def effect(self, message: Message) -> None:
        """The effect of a message."""
        self.run(f"INSERT INTO effects VALUES ('{message.id}')")


class Plain(Use):
    """A connection of a driver."""

    def __init__(self, db: Any) -> None:
        self.db = db

    def run(self, sql: str) -> None:
        cursor = self.db.cursor()
        cursor.execute(sql)
        if cursor.description:
            cursor.fetchall()
        cursor.close()

    def commit(self) -> None:
        self.db.commit()

    def rollback(self) -> None:
        self.db.rollback()

    def close(self) -> None:
        self.db.close()


class Alchemy(Use):
    """A Connection or Session of SQLAlchemy, with an engine of its own."""

    def __init__(self, url: str, with_session: bool) -> None:
        import sqlalchemy
        from sqlalchemy.orm import Session

        self.engine = sqlalchemy.create_engine(url)
        self.text = sqlalchemy.text
        self.db: Any = Session(self.engine) if with_session else self.engine.connect()

    def run(self, sql: str) -> None:
        self.db.execute(self.text(sql))

    def commit(self) -> None:
        self.db.commit()

    def rollback(self) -> None:
        self.db.rollback()

    def close(self) -> None:
        self.db.close()
        self.engine.dispose()


class InDjango(Use):
    """One of Django's databases, in a block of `atomic` that begins with the connection and after each end."""

    def __init__(self, alias: str) -> None:
        from django.db import connections

        self.alias = alias
        self.db = connections[alias]
        self._begin()

    def once(self, message: Message) -> Any:
        return once(message, using=self.alias)

    def run(self, sql: str) -> None:
        with self.db.cursor() as cursor:
            cursor.execute(sql)

    def commit(self) -> None:
        self._atomic.__exit__(None, None, None)
        self._begin()

    def rollback(self) -> None:
        self.db.set_rollback(True)
        self.commit()

    def close(self) -> None:
        self.rollback()
        self._atomic.__exit__(None, None, None)
        self.db.close()

    def _begin(self) -> None:
        from django.db import transaction

        self._atomic = transaction.atomic(using=self.alias)
        self._atomic.__enter__()


@dataclass
class Way:
    """`opened` opens a connection in its usual mode, `autocommit` one that commits each statement."""

    name: str
    place: Place
    opened: Callable[[], Use]
    autocommit: Callable[[], Use] | None = None

    @contextmanager
    def use(self) -> Iterator[Use]:
        """A connection that is closed at the end."""
        made = self.opened()
        try:
            yield made
        finally:
            made.close()


NAMES = {
    "psycopg": POSTGRESQL,
    "psycopg2": POSTGRESQL,
    "pymysql": MYSQL,
    "pymysql found_rows": MYSQL,
    "mysqlclient": MYSQL,
    "mysqlclient found_rows": MYSQL,
    "sqlite3": SQLITE,
    "alchemy psycopg": POSTGRESQL,
    "alchemy psycopg2": POSTGRESQL,
    "alchemy pymysql": MYSQL,
    "alchemy mysqldb": MYSQL,
    "alchemy pysqlite": SQLITE,
    "session psycopg": POSTGRESQL,
    "session mysqldb": MYSQL,
    "session pysqlite": SQLITE,
    "django postgresql": POSTGRESQL,
    "django mysql": MYSQL,
    "django sqlite": SQLITE,
}
"""Each way, and its dialect."""

assert {dialect.name for dialect in NAMES.values()} == set(DIALECTS)


def way_of(name: str, place: Place) -> Way:
    """A way into a place of the way's dialect."""
    words = name.split()
    if words[0] == "django":
        return Way(name, place, lambda: InDjango(words[1]))
    if words[0] in ("alchemy", "session"):
        url = _url(place, words[1])
        return Way(name, place, lambda: Alchemy(url, words[0] == "session"))
    return _OPENERS[words[0]](name, place)


def make_way(request: pytest.FixtureRequest, name: str) -> Way:
    """A way on the database of the run; skipped without mysqlclient, which is built by .ci/need-databases."""
    if "mysqlclient" in name or "mysqldb" in name or name == "django mysql":
        need_mysqlclient()
    if name.startswith("django"):
        request.getfixturevalue("django_places")
    return way_of(name, request.getfixturevalue(f"{NAMES[name].name}_place"))


def need_mysqlclient() -> None:
    """Skip without mysqlclient, fail under CI=true."""
    try:
        import MySQLdb  # noqa: F401
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("mysqlclient is not installed here: .ci/need-databases")


def _url(place: Place, driver: str) -> str:
    return place.server.url(place.name, driver) if isinstance(place, ServerPlace) else f"sqlite:///{place.path}"


def _psycopg(name: str, place: Any) -> Way:
    import psycopg
    from psycopg.rows import dict_row

    def connect(**more: Any) -> Use:
        return Plain(psycopg.connect(place.server.dsn(place.name), row_factory=dict_row, **more))

    return Way(name, place, connect, lambda: connect(autocommit=True))


def _psycopg2(name: str, place: Any) -> Way:
    import psycopg2
    from psycopg2.extras import RealDictCursor

    def connect(autocommit: bool = False) -> Use:
        made = psycopg2.connect(place.server.dsn(place.name), cursor_factory=RealDictCursor)
        made.autocommit = autocommit
        return Plain(made)

    return Way(name, place, connect, lambda: connect(autocommit=True))


def _mysql(name: str, place: Any) -> Way:
    import MySQLdb
    import MySQLdb.cursors
    import pymysql
    import pymysql.cursors

    module: Any = pymysql if name.startswith("pymysql") else MySQLdb
    flag = FOUND_ROWS if name.endswith("found_rows") else 0

    def connect(**more: Any) -> Use:
        rows = module.cursors.DictCursor
        return Plain(module.connect(**place.server.place(place.name), client_flag=flag, cursorclass=rows, **more))

    return Way(name, place, connect, lambda: connect(autocommit=True))


def _sqlite3(name: str, place: Any) -> Way:
    def connect(**more: Any) -> Use:
        made = sqlite3.connect(place.path, check_same_thread=False, **more)
        made.row_factory = sqlite3.Row
        return Plain(made)

    return Way(name, place, connect, lambda: connect(isolation_level=None))


_OPENERS: dict[str, Callable[[str, Any], Way]] = {
    "psycopg": _psycopg,
    "psycopg2": _psycopg2,
    "pymysql": _mysql,
    "mysqlclient": _mysql,
    "sqlite3": _sqlite3,
}
