"""Parts for tests of a fleet on a real PostgreSQL: connections that are driven by hand, and several hosts' ledgers."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from supervisor.config.schema import FleetConfig, LedgerConfig
from supervisor.fleet import schema
from supervisor.fleet.connection import Connection, Failure
from supervisor.fleet.encoding import Answer, Statement
from supervisor.fleet.targets import Look, Targets, look_up
from supervisor.ledger.base import Ledger
from supervisor.ledger.fleet import FleetLedger
from supervisor.system.clock import boottime_s
from supervisor.system.descriptor_set import DescriptorSet
from tests.support.ledgers import Store
from tests.support.postgresql import PostgreSQL

T = TypeVar("T")

_WITHIN_S = 30.0


class Driven:
    """A connection and the loop that a consumer has for it: it waits for the one descriptor alone.

    `hosts`: names or addresses, with ports. `look`: how names are looked up.
    """

    def __init__(self, database: str, hosts: list[tuple[str, int]], look: Look = look_up) -> None:
        self.descriptors = DescriptorSet()
        keywords = {"user": "postgres", "dbname": database}
        self.connection = Connection(keywords, Targets(hosts, look), self.descriptors)
        self.news: list[Answer | Failure] = []
        self._poll = select.poll()
        self._poll.register(self.descriptors.fileno(), select.POLLIN)

    def turn(self) -> None:
        """One turn, which waits for nothing."""
        news = self.connection.turn()
        if news is not None:
            self.news.append(news)
        self.descriptors.wake_at(self.connection.due_s)

    def until(self, holds: Callable[[], T], what: str) -> T:
        """Turn whenever the descriptor says so, until `holds()`; what it returned then."""
        deadline_s = boottime_s() + _WITHIN_S
        while not (value := holds()):
            self.turn()
            if value := holds():
                break
            left_s = deadline_s - boottime_s()
            assert left_s > 0, f"not within {_WITHIN_S:g} s: {what}; {self.connection.failure}"
            self._poll.poll(left_s * 1000)
        return value

    def connected(self) -> Connection:
        """Once there is a connection that takes a statement."""
        self.until(lambda: self.connection.idle, "a connection")
        return self.connection

    def ask(self, statement: Statement) -> Answer | Failure:
        """The answer to one statement."""
        self.connected().send(statement)
        self.until(lambda: self.news, "an answer")
        return self.news.pop()

    def close(self) -> None:
        """Everything is given back."""
        self.connection.close()
        self.descriptors.close()


def made_store(server: PostgreSQL, name: str = "tests") -> str:
    """A database with the schema of a fleet; its name."""
    import psycopg

    database = server.new_database()
    with psycopg.connect(server.dsn(database)) as connection:

        def ask(sql: str) -> list[tuple[object, ...]]:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

        schema.install(ask, name)
    return database


def emptied_store(server: PostgreSQL, database: str) -> None:
    """As `made_store` made it: a test begins with nothing, in a hundredth of the time of another database."""
    server.ask(database, "TRUNCATE preforkd.holder, preforkd.open, preforkd.settled")


def store_url(port: int, database: str, address: str = "127.0.0.1") -> str:
    """What `[fleet] url_file` has."""
    return f"postgresql://postgres@{address}:{port}/{database}"


@contextmanager
def driven(database: str, hosts: list[tuple[str, int]], look: Look = look_up) -> Iterator[Driven]:
    """A driven connection that is closed at the end."""
    made = Driven(database, hosts, look)
    try:
        yield made
    finally:
        made.close()


class Host:
    """One host of a fleet: a folder of its own, and the ledger in it."""

    def __init__(self, name: str, folder: Path, fleet: FleetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir(exist_ok=True)
        self.name = name
        self.folder = folder
        self.place = Store(LedgerConfig(), folder, fleet)
        self._monkeypatch = monkeypatch
        self._ledger: Ledger | None = None

    def open(self) -> Ledger:
        """Its ledger, opened (again)."""
        self.close()
        with self._monkeypatch.context() as patched:
            patched.setattr(socket, "gethostname", lambda: self.name)
            self._ledger = self.place.open()
        return self._ledger

    @property
    def ledger(self) -> Ledger:
        """Its ledger; opened at the first use."""
        return self._ledger or self.open()

    def close(self) -> None:
        """Close the ledger, as a consumer does."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def kill(self) -> None:
        """What is left of a consumer after `kill -9`: its files, and no word to the store."""
        assert isinstance(self._ledger, FleetLedger)
        self._ledger._store.close()
        self._ledger._host.close()
        self._ledger._descriptors.close()
        self._ledger = None
