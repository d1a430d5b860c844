"""The databases of these tests: one for each server in the whole run, a file for SQLite, Django set up on all three."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from typing import Any

import pytest

from supervisor import Message
from supervisor.inbox.dialects import MYSQL, POSTGRESQL
from tests.support.inbox_ways import NAMES, FilePlace, Place, ServerPlace, Way, make_way
from tests.support.mariadb import MariaDB
from tests.support.postgresql import PostgreSQL


@pytest.fixture(scope="session")
def postgresql_place(postgresql: PostgreSQL) -> Place:
    return ServerPlace(postgresql, POSTGRESQL)


@pytest.fixture(scope="session")
def mysql_place(mariadb: MariaDB) -> Place:
    return ServerPlace(mariadb, MYSQL)


@pytest.fixture(scope="session")
def sqlite_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return FilePlace(tmp_path_factory.mktemp("inbox") / "inbox.db")


@pytest.fixture(scope="session")
def django_places(postgresql_place: Any, mysql_place: Any, sqlite_place: Any) -> None:
    """Django's settings, once: its databases are named by dialect."""
    import django
    from django.conf import settings

    def at(place: ServerPlace, user: str) -> dict[str, object]:
        return {"NAME": place.name, "HOST": "127.0.0.1", "PORT": place.server.port, "USER": user}

    engine = "django.db.backends."
    settings.configure(
        DATABASES={
            "default": {"ENGINE": f"{engine}sqlite3", "NAME": ":memory:"},
            "postgresql": {"ENGINE": f"{engine}postgresql", **at(postgresql_place, "postgres")},
            "mysql": {"ENGINE": f"{engine}mysql", **at(mysql_place, "root")},
            "sqlite": {"ENGINE": f"{engine}sqlite3", "NAME": sqlite_place.path},
        },
        INSTALLED_APPS=["supervisor.inbox.django", "supervisor.outbox.django"],
        USE_TZ=True,
    )
    django.setup()


@pytest.fixture(params=NAMES)
def way(request: pytest.FixtureRequest) -> Way:
    return make_way(request, request.param)


@pytest.fixture(params=["psycopg", "psycopg2", "pymysql", "mysqlclient", "sqlite3"])
def driver_way(request: pytest.FixtureRequest) -> Way:
    """One way for each driver."""
    return make_way(request, request.param)


@pytest.fixture(params=["psycopg", "pymysql", "sqlite3"])
def dialect_way(request: pytest.FixtureRequest) -> Way:
    """One way for each dialect."""
    return make_way(request, request.param)


@pytest.fixture
def attempt(request: pytest.FixtureRequest) -> Callable[..., Message]:
    """Makes the attempts of one message, which is the test's own."""
    numbers, key = count(1), blake2b(request.node.nodeid.encode(), digest_size=24)
    return lambda **more: Message(b"", id=key.hexdigest(), **({"attempt": next(numbers), "key": key.digest()} | more))
