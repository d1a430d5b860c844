"""The schema of the fleet ledger in a database of its own, and its holders as tests use them.

The calls of a `Caller` can be begun and ended apart, so that a test can look at one that waits for another. A `Holder`
keeps the turn of its epoch, as a consumer does. Messages are small numbers, in the order of their keys.
"""

from __future__ import annotations

import re
import select
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg.adapt import Transformer

from supervisor.fleet import schema
from tests.support.postgresql import PostgreSQL
from tests.support.waiting import eventually

DAEMON = "preforkd_daemon"
"""A role that may execute the functions of daemons only."""

_TIMEOUT_S = 20.0
_DIGEST = 7
_ARRAYS = "%s::uuid[], %s::bigint[], %s::integer[], %s::integer[], %s::text[], %s::text[], %s::bytea[]"
TURN = f"SELECT * FROM preforkd.turn_1(%s, %s, {_ARRAYS}, {_ARRAYS})"
_ROWS = "SELECT id, round, attempt, state::text, epoch FROM preforkd.{} ORDER BY id, round, attempt, {}"


class Entry(NamedTuple):
    """A claim or a settle."""

    key: int
    state: str = "c"
    run: tuple[int, int] = (1, 1)
    name: str = ""
    note: bytes = b""


class Way(NamedTuple):
    """The row in the way of a refused entry."""

    state: str
    run: tuple[int, int]
    epoch: int
    is_open: bool
    lost: bool = False


class Row(NamedTuple):
    """A row of a table, without its times."""

    key: int
    run: tuple[int, int]
    state: str
    epoch: int


class StoreError(Exception):
    """PostgreSQL's answer is an error. `sqlstate`: which."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(f"{sqlstate}: {text}")
        self.sqlstate = sqlstate


class Caller:
    """One connection. `begin` sends a statement, `end` waits for its answer and raises its error."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._wire = self._connection.pgconn
        self.pid = self._connection.info.backend_pid

    def begin(self, sql: str, *values: object) -> None:
        """Send statements. A placeholder is %s."""
        with psycopg.ClientCursor(self._connection) as cursor:
            self._wire.send_query((cursor.mogrify(sql, values) if values else sql).encode())

    @property
    def busy(self) -> bool:
        """Whether a statement was begun whose answer was not taken."""
        return self._wire.transaction_status == psycopg.pq.TransactionStatus.ACTIVE

    def ended(self) -> bool:
        """Whether the answer is there."""
        self._wire.consume_input()
        return not self._wire.is_busy()

    def end(self) -> list[tuple[Any, ...]]:
        """The rows of the last statement. Raises StoreError."""
        while not self.ended():
            assert select.select([self._wire.socket], [], [], _TIMEOUT_S)[0], "PostgreSQL does not answer"
        results = [*iter(self._wire.get_result, None)]
        last = results[-1]
        if last.error_message:
            raise StoreError(_sqlstate(last), last.error_message.decode())
        adapt = Transformer(self._connection)
        adapt.set_pgresult(last)
        return adapt.load_rows(0, last.ntuples, tuple)

    def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """`begin` and `end`."""
        self.begin(sql, *values)
        return self.end()

    def close(self) -> None:
        """End the connection. A statement under way goes on in the server."""
        self._connection.close()


class Holder:
    """One epoch. `turn`: the number of the next call."""

    def __init__(self, store: FleetStore, host: str, ledger: UUID, place: str, caller: Caller) -> None:
        self.store, self.host, self.ledger, self.place, self.caller = store, host, ledger, place, caller
        self.epoch = self.turn = 0

    def register(self, silent: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """A new epoch; None, or the epoch and turn of the holder that blocks it."""
        sql, values = registration(self.ledger, self.place, self.host, silent)
        ((epoch, turn, blocker, blocker_turn, _host, _lease),) = self.caller.ask(sql, *values)
        if epoch is None:
            return blocker, blocker_turn
        self.epoch, self.turn = epoch, turn
        return None

    def resume(self) -> None:
        """On another connection: the former one is closed."""
        self.caller.close()
        self.caller = self.store.caller()
        ((self.turn,),) = self.caller.ask("SELECT preforkd.resume_1(%s)", self.epoch)

    def begin(self, claims: Iterable[Entry] = (), settles: Iterable[Entry] = ()) -> None:
        """Send a turn."""
        self.caller.begin(TURN, self.epoch, self.turn, *columns([*claims]), *columns([*settles]))

    def end(self) -> dict[int, Way]:
        """What was refused of it. Raises StoreError."""
        rows = self.caller.end()
        self.turn += 1
        return {r[0].int >> 96: Way(r[4], (r[2], r[3]), r[5], r[11], r[10]) for r in rows}

    def call(self, claims: Iterable[Entry] = (), settles: Iterable[Entry] = ()) -> dict[int, Way]:
        """`begin` and `end`."""
        self.begin(claims, settles)
        return self.end()

    def claim(self, *keys: int, run: tuple[int, int] = (1, 1)) -> dict[int, Way]:
        """A turn that claims them."""
        return self.call([Entry(key, "c", run) for key in keys])

    def settle(self, state: str, *keys: int, run: tuple[int, int] = (1, 1)) -> dict[int, Way]:
        """A turn that settles them."""
        return self.call([], [Entry(key, state, run) for key in keys])

    def mine(self) -> list[tuple[int, tuple[int, int], str]]:
        """Its open rows."""
        rows = self.caller.ask("SELECT * FROM preforkd.mine_1(%s)", self.epoch)
        return sorted((r[0].int >> 96, (r[2], r[3]), r[4]) for r in rows)

    @contextmanager
    def transaction(self, end: str = "COMMIT") -> Iterator[None]:
        """Turns in it are under way until its end, COMMIT or ROLLBACK."""
        self.caller.ask("BEGIN")
        turn = self.turn
        yield
        self.caller.ask(end)
        if end == "ROLLBACK":
            self.turn = turn


class FleetStore:
    """A schema in a database, and all connections to it."""

    def __init__(self, server: PostgreSQL, database: str) -> None:
        self._server, self._database = server, database
        self._callers: list[Caller] = []
        self._names = count(1)
        self.owner = self.caller("postgres")

    def make(self, texts: Sequence[tuple[str, str]] = ()) -> None:
        """Make the schema again, empty. Each of `texts` is a regular expression in the SQL and what replaces it."""
        self.owner.ask("DROP SCHEMA IF EXISTS preforkd CASCADE")
        with suppress(StoreError):  # it is there
            self.owner.ask(f"CREATE ROLE {DAEMON} LOGIN")
        statements = schema.statements(0, "test", DAEMON)
        for pattern, text in texts:
            replaced = [re.sub(pattern, text, statement) for statement in statements]
            assert replaced != statements, f"{pattern} is not in the SQL"
            statements = replaced
        self.owner.ask("BEGIN")
        for statement in statements:
            self.owner.ask(statement)
        self.owner.ask("COMMIT")

    def clear(self) -> None:
        """Forget all rows, and close all connections but the owner's."""
        self.close()
        self.owner.ask("; ".join(f"DELETE FROM preforkd.{table}" for table in ("holder", "open", "settled")))

    def close(self) -> None:
        """Close the connections but the owner's."""
        for caller in self._callers:
            if caller is not self.owner:
                caller.close()
        self._callers = [self.owner]

    def caller(self, user: str = DAEMON) -> Caller:
        """A new connection."""
        dsn = self._server.dsn(self._database).replace("user=postgres", f"user={user}")
        self._callers.append(Caller(dsn))
        return self._callers[-1]

    def unregistered(self, host: str = "", ledger: UUID | None = None, place: str = "here") -> Holder:
        """A holder without an epoch, on a connection of its own. Without a host: on one of its own."""
        return Holder(self, host or f"host{next(self._names)}", ledger or uuid4(), place, self.caller())

    def holder(self, host: str = "") -> Holder:
        """A registered one, on a ledger of its own."""
        holder = self.unregistered(host)
        assert holder.register() is None
        return holder

    def forget(self, holder: Holder) -> None:
        """Its host is declared lost."""
        self.owner.ask("SELECT * FROM preforkd.forget_1(%s)", holder.host)

    def open_rows(self) -> list[Row]:
        """All rows in `open`."""
        return _rows(self.owner.ask(_ROWS.format("open", "epoch")))

    def settled_rows(self) -> list[Row]:
        """All rows in `settled`; those of one run in the order in which they were written."""
        return _rows(self.owner.ask(_ROWS.format("settled", "seq")))

    def waits(self, holder: Holder) -> bool:
        """Whether its call waits for a lock of another."""
        ((waits,),) = self.owner.ask("SELECT cardinality(pg_blocking_pids(%s)) > 0", holder.caller.pid)
        return bool(waits)

    def until_waiting(self, holder: Holder) -> None:
        """Wait until it waits for a lock of another."""
        eventually(lambda: self.waits(holder), f"{holder.host} waits for a lock")


def registration(
    ledger: UUID, place: str, host: str, silent: tuple[int, int] | None = None
) -> tuple[str, tuple[object, ...]]:
    """The call `register_1`, and its values."""
    values = (ledger, place, host, "pool", "queue", 90.0, 3600.0, 5, "1.0", *(silent or (None, None)))
    marks = ", ".join(["%s"] * len(values))
    return f"SELECT * FROM preforkd.register_1({marks})", values


def columns(entries: Sequence[Entry]) -> list[list[Any]]:
    """The arrays of a call."""
    return [
        [UUID(int=e.key << 96) for e in entries],
        [_DIGEST for _ in entries],
        [e.run[0] for e in entries],
        [e.run[1] for e in entries],
        [e.state for e in entries],
        [e.name for e in entries],
        [e.note for e in entries],
    ]


def _rows(found: list[tuple[Any, ...]]) -> list[Row]:
    return [Row(r[0].int >> 96, (r[1], r[2]), r[3], r[4]) for r in found]


def _sqlstate(result: Any) -> str:
    state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
    return bytes(state).decode()
