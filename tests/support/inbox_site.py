"""A daemon whose handler uses an inbox in a database, and the audit of what came of its messages.

The database counts effects, the audit queue has what was published, the queues of dead letters tell the rest. Each of
these says by itself what happened; the audit compares them.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.brokers import open_admin
from supervisor.brokers.base import Delivery
from supervisor.brokers.names import dead_queue
from supervisor.config.schema import BrokerConfig
from supervisor.errors import ControlError
from supervisor.inbox.dialects import MYSQL, POSTGRESQL, SQLITE, Dialect
from supervisor.messages.message import Properties, Publication
from tests.support.daemon import ROOT, Daemon, cleaned_up
from tests.support.failpoints.failpoints_runtime import ARMED, FIRED, FOLDER
from tests.support.inbox_handlers import AUDIT_QUEUE, DATABASES
from tests.support.mariadb import MariaDB
from tests.support.postgresql import PostgreSQL
from tests.support.waiting import eventually

MAX_ATTEMPTS = 3
NOT_KNOWN = "not known whether its effect has happened"
NOT_HAPPENED = "its effect has not happened"

_QUEUE = "email"
_SETTLED = ("done", "dead")
_EFFECTS = "CREATE TABLE effects (id VARCHAR(60), round INTEGER, attempt INTEGER, nonce VARCHAR(16))"
_SETTINGS = f"""
max_attempts = {MAX_ATTEMPTS}
retry_delays = ["100ms"]
timeout = "60s"
max_timeout = "60s"
on_crash = "inbox"
max_messages = 0
restart_backoff = ["1ms", "2ms"]
restart_intensity = [1000000, "1s"]
"""


class Database(NamedTuple):
    """One database with an inbox and a table of effects. `ask`: runs a query and returns all rows."""

    kind: str
    place: object
    ask: Callable[[str], list[tuple[Any, ...]]]


def new_database(kind: str, folder: Path, server: Any = None) -> Database:
    """A new database: a file of `sqlite` in this folder; one of `postgresql` or `mariadb` on its running `server`."""
    if kind == "sqlite":
        return _sqlite_database(folder / f"inbox{len(list(folder.glob('inbox*.db')))}.db")
    return {"postgresql": _postgresql_database, "mariadb": _mariadb_database}[kind](server)


def _sqlite_database(path: Path) -> Database:

    def ask(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, timeout=30.0, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()

    ask("PRAGMA journal_mode = WAL")
    return _made(Database("sqlite", str(path), ask), SQLITE)


def _postgresql_database(server: PostgreSQL) -> Database:
    name = server.new_database()
    return _made(Database("postgresql", server.dsn(name), lambda sql: server.ask(name, sql)), POSTGRESQL)


def _mariadb_database(server: MariaDB) -> Database:
    name = server.new_database()
    return _made(Database("mysql", server.place(name), lambda sql: server.ask(name, sql)), MYSQL)


def _made(database: Database, dialect: Dialect) -> Database:
    for statement in (*dialect.make, _EFFECTS):
        database.ask(statement)
    return database


class Letter(NamedTuple):
    """A dead letter, as its headers tell it."""

    cause: str
    reason: str
    attempts: int
    signal: str


class Audit(NamedTuple):
    """What came of the messages: ids whose effect happened twice; whose publication is lost, or is another one than
    that of the effect; those that are done without an effect; letters that say what is not true."""

    second_effects: list[str]
    lost_publications: list[str]
    undone: list[str]
    wrong_letters: list[str]
    lost_messages: list[str]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self)


class InboxSite(Daemon):
    """One state directory, and the daemons on it. `databases`: the handler's, then another one for its mistakes."""

    def __init__(self, directory: Path, databases: list[Database], workers: int = 2) -> None:
        self.databases = databases
        self.sent: list[str] = []
        self._failpoints = directory / "failpoints"
        super().__init__(directory, f"workers = {workers}\nprefetch = {4 * workers}\n{_SETTINGS}")

    def configure(self, settings: str, daemon: str = "") -> None:
        """Write the configuration."""
        places = json.dumps([(database.kind, database.place) for database in self.databases])
        self.config_path.write_text(
            f'[daemon]\nstate_dir = "{self.state_dir}"\nruntime_dir = "{self.runtime_dir}"\n{daemon}\n'
            f'[pools.email]\nqueue = "{_QUEUE}"\nhandler = "tests.support.inbox_handlers:run"\n'
            f'path = ["{ROOT}"]\n{settings}\n'
            f"[pools.email.environment]\n{DATABASES} = '''{places}'''\n"
        )

    def start(self, ready: bool = True, stale_s: float | None = None, prefix: str = "") -> None:
        """Start a daemon, with its audit queue."""
        path = f"{ROOT / 'tests/support/failpoints'}{os.pathsep}{ROOT}"
        super().start(ready, stale_s, prefix or f"export {FOLDER}='{self._failpoints}' PYTHONPATH='{path}'; exec ")
        with open_admin(BrokerConfig(), str(self.state_dir)) as admin:
            admin.ensure_queue(AUDIT_QUEUE)

    def arm(self, point: str) -> None:
        """Have the next worker that comes to this fail-point die there."""
        (self._failpoints / FIRED).unlink(missing_ok=True)
        tokens = self._failpoints / ARMED / point
        tokens.mkdir(parents=True, exist_ok=True)
        (tokens / "0").touch()

    def fired(self) -> str:
        """Where the last worker has died of `arm`: the name of the point, and its pid; "" before."""
        path = self._failpoints / FIRED
        return path.read_text() if path.exists() else ""

    def send_orders(self, orders: dict[str, dict[str, Any]]) -> None:
        """Publish a message for each id."""
        self.sent += orders
        messages = [
            Publication("", _QUEUE, Properties(message_id=id), json.dumps(order).encode())
            for id, order in orders.items()
        ]
        with open_admin(BrokerConfig(), str(self.state_dir)) as admin:
            report = admin.publish(messages, 100, lambda total: None)
        assert (report.sent, report.failed) == (len(messages), [])

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until every message is done or dead."""
        eventually(lambda: self.settled >= len(self.sent), "every message is settled", timeout_s)

    @property
    def settled(self) -> int:
        """How many messages are done or dead."""
        with suppress(ControlError):
            counters = self.pool()["counters"]
            return sum(counters.get(name, 0) for name in _SETTLED)
        return 0

    def kills(self) -> int:
        """How many workers were killed."""
        rows = self.status()["exits"]
        return sum(row["count"] for row in rows if (row["kind"], row["cause"]) == ("worker", "killed"))

    # ---- what came of it ------------------------------------------------------------------------------------------

    def effects(self) -> dict[str, list[str]]:
        """The nonces of all effects, by message."""
        found: dict[str, list[str]] = defaultdict(list)
        for id, nonce in self.databases[0].ask("SELECT id, nonce FROM effects"):
            found[id].append(nonce)
        return found

    def published(self) -> dict[str, set[str]]:
        """The nonces in the audit queue, by message."""
        found: dict[str, set[str]] = defaultdict(set)
        for delivery in self._deliveries(AUDIT_QUEUE):
            found[delivery.properties.message_id or ""].add(delivery.body.decode())
        return found

    def letters(self) -> dict[str, Letter]:
        """The dead letters, by message."""
        found = {}
        for delivery in self._deliveries(dead_queue(_QUEUE)):
            headers = delivery.properties.headers or {}
            facts = (headers.get(f"x-preforkd-{name}", "") for name in ("cause", "reason", "attempts", "signal"))
            found[delivery.properties.message_id or ""] = Letter(*facts)
        return found

    def audit(self) -> Audit:
        """Compare all accounts of what happened."""
        effects, published, letters = self.effects(), self.published(), self.letters()
        done = [id for id in self.sent if id not in letters]
        return Audit(
            second_effects=[id for id, nonces in effects.items() if len(nonces) > 1],
            lost_publications=[id for id in done if set(effects.get(id, ())) != published.get(id, set())],
            undone=[id for id in done if id not in effects],
            wrong_letters=[id for id, letter in letters.items() if not _is_true(letter, effects.get(id, []))],
            lost_messages=[] if self.settled == len(self.sent) else [f"{self.settled} of {len(self.sent)}"],
        )

    def _deliveries(self, queue: str) -> list[Delivery]:
        with open_admin(BrokerConfig(), str(self.state_dir)) as admin:
            depth = admin.depth(queue)
            taken = admin.take(queue, depth.ready) if depth and depth.ready else []
            admin.requeue_all()
        return taken


def _is_true(letter: Letter, effects: list[str]) -> bool:
    """Whether a letter of a death is one without an effect, or says that this is not known."""
    if letter.cause in ("failed", "reject") or NOT_KNOWN in letter.reason:
        return True
    return NOT_HAPPENED in letter.reason and not effects


@contextmanager
def inbox_site(directory: Path, databases: list[Database], workers: int = 2) -> Iterator[InboxSite]:
    """A site with a running daemon; nothing of it runs afterwards."""
    site = InboxSite(directory, databases, workers)
    with cleaned_up(site, start=True):
        yield site
