"""What operators do with the store of a fleet: make and upgrade its schema, look at it, declare a host lost.

Used by commands only, one after the other and waiting for each answer. A consumer must not use it: it blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import psycopg

from supervisor.errors import PreforkdError
from supervisor.fleet import schema
from supervisor.fleet.address import Address, address
from supervisor.fleet.reasons import explained

OLDEST = 14
"""The oldest major version of PostgreSQL: the oldest one that still gets mends."""

_CONNECT_S = 5
_OWN = {"application_name": "preforkd fleet", "target_session_attrs": "read-write", "client_encoding": "UTF8"}


class StoreError(PreforkdError):
    """The store cannot be reached or used; the text says why, and what to do."""


class Installed(NamedTuple):
    """The version of the schema before (0: there was none) and now, the owner, and the roles that daemons may have."""

    before: int
    now: int
    owner: str
    roles: tuple[str, ...]


class Facts(NamedTuple):
    """What the server says of itself, and to the daemon's role. `server`: 15.4. `clock_s`: the server's time of day.

    `settings`: of the server, by name. `schema`: None, no schema; `denied`: functions without the right to call them.
    """

    server: str
    major: int
    user: str
    clock_s: float
    settings: dict[str, str]
    schema: int | None
    fleet: str
    denied: tuple[str, ...]


class Holder(msgspec.Struct, frozen=True):
    """A pool of a host in the fleet. `idle_s`: since its last call, by the server's clock. `lost`: others decide about
    its messages. `fenced_by`: the host that has ended it for its silence; `lost_by`: the one that has declared it lost,
    "" where an operator did."""

    host: str
    pool: str
    queue: str
    epoch: int
    state: str
    lost: bool
    idle_s: float
    claimed: int
    retry_pending: int
    dead_pending: int
    parked_pending: int
    lease_s: float
    settings: int
    version: str
    fenced_by: str = ""
    lost_by: str = ""

    @property
    def open_rows(self) -> int:
        """Messages that it has in hand, or whose retry or dead-letter copy it has to publish."""
        return self.claimed + self.retry_pending + self.dead_pending + self.parked_pending

    @property
    def alive(self) -> bool:
        """Whether it has called within its lease."""
        return self.state == "l" and self.idle_s <= self.lease_s


class Ended(NamedTuple):
    """An epoch that was declared lost, and the number of messages that it had in hand."""

    epoch: int
    pool: str
    queue: str
    open_rows: int


class Store:
    """One connection to the store of a fleet. Its methods raise StoreError."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def install(self, fleet: str, role: str = "") -> Installed:
        """Make the schema for `fleet`, or bring it to this version; give the `role` of the daemons its rights. Again it
        changes nothing. Raises StoreError, also for a store of another fleet, or a later schema."""
        self._refuse_unfit()
        self._refuse_other_fleet(fleet)
        if role and not self._ask("SELECT 1 FROM pg_roles WHERE rolname = %s", role):
            raise StoreError(
                f"there is no role {role}: CREATE ROLE {schema.identifier(role)} LOGIN PASSWORD '…' makes it"
            )
        with _plain_errors(), self._connection.transaction():
            before, now = schema.install(self._execute, fleet, role)
            for other in self._roles():
                for statement in schema.rights(other):
                    self._execute(statement)
        if before > schema.VERSION:
            raise _later(before)
        ((owner,),) = self._ask("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'preforkd'")
        return Installed(before, now, owner, self._roles())

    def version(self) -> int:
        """The version of the schema; 0 without one. Needs the owner's rights."""
        with _plain_errors():
            return schema.found_version(self._execute)

    def facts(self) -> Facts:
        """What `check` looks at, with the rights of this user."""
        ((server, major, user, clock_s, there),) = self._ask(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, "
            "current_user::text, extract(epoch FROM clock_timestamp())::float8, to_regnamespace('preforkd') IS NOT NULL"
        )
        names = ("fsync", "full_page_writes", "synchronous_commit", "transaction_read_only", "server_encoding")
        settings = dict(self._ask("SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", list(names)))
        found, fleet, denied = self._about() if there else (None, "", ())
        return Facts(server, major, user, clock_s, settings, found, fleet, denied)

    def holders(self) -> list[Holder]:
        """The pools that are there, or have messages in hand; by host and pool."""
        names = Holder.__struct_fields__
        return [Holder(*row) for row in self._ask(f"SELECT {', '.join(names)} FROM preforkd.holders_1()")]

    def forget(self, host: str) -> list[Ended]:
        """Declare a host lost: what it had in hand is decided by the others. Needs the owner's rights."""
        return [
            Ended(*row) for row in self._ask("SELECT epoch, pool, queue, open_rows FROM preforkd.forget_1(%s)", host)
        ]

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _about(self) -> tuple[int | None, str, tuple[str, ...]]:
        denied = tuple(
            name
            for name, allowed in self._ask(
                "SELECT p.proname::text, has_function_privilege(p.oid, 'EXECUTE') AND "
                "has_schema_privilege(p.pronamespace, 'USAGE') FROM pg_proc p "
                "WHERE p.pronamespace = 'preforkd'::regnamespace AND p.proname = ANY (%s)",
                list(schema.FOR_DAEMONS),
            )
            if not allowed
        )
        if denied:
            return None, "", denied
        ((found, fleet),) = self._ask("SELECT schema, fleet FROM preforkd.about_1()")
        return found, fleet, denied

    def _roles(self) -> tuple[str, ...]:
        """The roles that have been given the rights of daemons."""
        rows = self._ask(
            "SELECT DISTINCT r.rolname::text FROM pg_proc p, aclexplode(p.proacl) a "
            "JOIN pg_roles r ON r.oid = a.grantee WHERE p.pronamespace = 'preforkd'::regnamespace "
            "AND p.proname = 'about_1' AND a.grantee <> p.proowner ORDER BY 1"
        )
        return tuple(name for (name,) in rows)

    def _refuse_unfit(self) -> None:
        ((server, major, encoding),) = self._ask(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, "
            "current_setting('server_encoding')"
        )
        if major < OLDEST:
            raise StoreError(f"the server is PostgreSQL {server}: the store of a fleet needs {OLDEST} or later")
        if encoding != "UTF8":
            raise StoreError(
                f"the database has the encoding {encoding}: CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' makes "
                "one that takes the ids of all messages"
            )

    def _refuse_other_fleet(self, fleet: str) -> None:
        found = self.version()
        if found > schema.VERSION:
            raise _later(found)
        rows = self._ask("SELECT value FROM preforkd.meta WHERE name = 'fleet'") if found else []
        if rows and rows[0][0] != fleet:
            raise StoreError(
                f"the database is the store of the fleet {rows[0][0]}, and fleet.name is {fleet}: correct the name, or "
                "give each fleet a database of its own"
            )

    def _execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Statements without parameters, perhaps several; what `schema.Ask` is."""
        cursor = self._connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []

    def _ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with _plain_errors():
            return self._connection.execute(sql.encode(), values).fetchall()


def _later(found: int) -> StoreError:
    return StoreError(
        f"the schema in the database has version {found}, and this preforkd knows {schema.VERSION}: install a later one"
    )


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """The store, on the first of its hosts that is there and takes writes. Raises StoreError, ValueError (the URL)."""
    connection = _connected(address(url))
    try:
        yield Store(connection)
    finally:
        connection.close()


def _connected(place: Address) -> psycopg.Connection[Any]:
    reasons = []
    for host, port in place.hosts:
        keywords: dict[str, Any] = {"connect_timeout": _CONNECT_S, **place.keywords, **_OWN}
        try:
            # Without prepared statements and startup options: a pooler may not know them.
            found = psycopg.connect(host=host, port=port, autocommit=True, prepare_threshold=None, **keywords)
        except (psycopg.Error, OSError, UnicodeError) as error:
            reasons.append(explained(getattr(error, "sqlstate", None) or "", str(error)))
            continue
        return found
    raise StoreError(f"{place.shown}: " + "; ".join(dict.fromkeys(reasons)))


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        text = error.diag.message_primary or str(error)
        raise StoreError(explained(error.sqlstate or "", text)) from error
