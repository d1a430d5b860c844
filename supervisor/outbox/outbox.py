"""`put` writes a message into the outbox, `relay` publishes what is in it. Runs in processes of users.

Neither begins, commits or rolls back: the transaction is the user's. A row leaves only after the broker's confirm, in
the transaction that the caller commits afterwards. A relay that dies in between leaves the row, and its message goes
again with the same id: it runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from supervisor.client import Client, ClientError, InvalidMessage
from supervisor.client.request import Request, properties_of
from supervisor.errors import PreforkdError
from supervisor.inbox.connections import Connection
from supervisor.inbox.faults import Fault, fault_of
from supervisor.inbox.finding import connection_of
from supervisor.inbox.stored import packed, unpacked
from supervisor.messages.inbox_run import InboxError
from supervisor.messages.message import Properties, Publication
from supervisor.outbox.tables import LOOK, PUT, TABLE, delete, take
from supervisor.system.clock import wall_s

_SLACK_S = 10.0
_LONGEST_S = 100 * 365 * 86_400.0


class OutboxError(PreforkdError):
    """The outbox cannot be used like this. The text says what was wrong and what to do."""


class Failed(NamedTuple):
    """A row that stays, and why. `id`: the row's; `message_id`: "" where the row cannot be read."""

    id: int
    message_id: str
    error: Exception


class Relayed(NamedTuple):
    """What one call of `relay` has done: rows `published` and deleted, and those that failed and stay.

    `last`: the highest id that it has looked at, for the next call's `after`; 0 where nothing is left.
    """

    published: int
    failed: tuple[Failed, ...]
    last: int


def put(
    db: Any,
    routing_key: str,
    body: bytes | str,
    *,
    exchange: str = "",
    properties: Properties | None = None,
    expires_s: float | None = None,
    delay_s: float = 0.0,
    using: str | None = None,
    **fields: Any,
) -> str:
    """Write a message into the outbox, within the transaction of `db`; returns its id.

    `db`: a connection as for `supervisor.inbox.once`, or None with `using`, the alias of one of Django's databases.
    `delay_s`: no relay publishes it earlier, by the wall clock; it may be for years, and to an exchange. The others are
    those of `Client.publish`; `**fields` are single `properties`, as `message_id`, which is a UUID if you give none.
    Raises OutboxError without a transaction or table, InvalidMessage and TypeError for a message that cannot be sent,
    and what the driver raises.
    """
    if not 0 <= delay_s <= _LONGEST_S:
        raise InvalidMessage(f"outbox: delay_s = {delay_s:g}: it is a number of seconds, from 0 to a hundred years")
    request, now_s = (
        Request(routing_key, body, exchange, properties_of(properties, None, fields), expires_s, delay_s),
        wall_s(),
    )
    publication = request.publication(now_s)
    with _used(db, using) as connection:
        connection.count(PUT, packed([publication]), _ms(now_s + delay_s) if delay_s else 0)
    return str(publication.properties.message_id)


def relay(
    db: Any, client: Client, limit: int = 100, *, after: int = 0, timeout_s: float = 30.0, using: str | None = None
) -> Relayed:
    """Publish at most `limit` rows that are due, in the order of their ids, and delete each one that is confirmed.

    Commit afterwards. `db` and `using`: as of `put`. `after`: rows up to this id are left out, so that rows which fail
    hold up no later ones. `timeout_s`: how long to wait for confirms. Rows of another relay's open transaction are
    left out (on SQLite it waits: begin with BEGIN IMMEDIATE).
    Raises OutboxError without a transaction or table, and what the driver raises; a row that cannot be published is in
    the result.
    """
    with _used(db, using) as connection:
        rows, last = _rows(connection, limit, after)
        confirmed, failed = _published(rows, client, timeout_s)
        if confirmed:
            connection.count(delete(len(confirmed)), *confirmed)
    return Relayed(len(confirmed), tuple(failed), last)


def relay_in_two(
    transaction: Callable[[], AbstractContextManager[object]],
    client: Client,
    limit: int = 100,
    *,
    after: int = 0,
    timeout_s: float = 30.0,
    using: str,
) -> Relayed:
    """`relay` with one transaction to read and another one to delete, for Django on SQLite.

    SQLite refuses a write at once if another writer has committed since the transaction's first read. A lock that is
    taken before the read would hold up all writers until the confirms. In between another relay may publish the same
    rows with the same ids.
    `transaction`: makes a context manager that begins and commits. The other parameters and the errors are those of
    `relay`.
    """
    with transaction(), _used(None, using) as connection:
        rows, last = _rows(connection, limit, after)
    confirmed, failed = _published(rows, client, timeout_s)
    if confirmed:
        with transaction(), _used(None, using) as connection:
            connection.count(delete(len(confirmed)), *confirmed)
    return Relayed(len(confirmed), tuple(failed), last)


def _rows(connection: Connection, limit: int, after: int) -> tuple[list[tuple[int, bytes]], int]:
    """At most `limit` rows that are locked from now on, and the last id that was looked at."""
    while found := connection.rows(LOOK, after, _ms(wall_s()), limit):
        ids = [id for (id,) in found]
        if rows := connection.rows(take(connection.dialect.name, len(ids)), *ids):
            return [(int(id), bytes(publication)) for id, publication in rows], ids[-1]
        after = ids[-1]  # another relay has all of them
    return [], 0


def _published(rows: list[tuple[int, bytes]], client: Client, timeout_s: float) -> tuple[list[int], list[Failed]]:
    """The ids of the rows that the broker has confirmed, and those that failed."""
    confirmed: list[int] = []
    failed: list[Failed] = []
    pending: list[tuple[int, str, Future[str]]] = []
    for id, data in rows:
        message_id = ""
        try:
            (publication,) = unpacked(data)
            message_id = str(publication.properties.message_id)
            pending.append((id, message_id, _submitted(client, publication, timeout_s)))
        except (ClientError, InboxError, ValueError) as error:
            failed.append(Failed(id, message_id, error))
    for id, message_id, future in pending:
        try:
            future.result(timeout_s + _SLACK_S)
        except (ClientError, TimeoutError) as error:
            failed.append(Failed(id, message_id, error))
        else:
            confirmed.append(id)
    return confirmed, failed


def _submitted(client: Client, publication: Publication, timeout_s: float) -> Future[str]:
    return client.submit(
        publication.routing_key,
        publication.body,
        exchange=publication.exchange,
        properties=publication.properties,
        timeout_s=timeout_s,
    )


def _ms(time_s: float) -> int:
    return int(time_s * 1000)


@contextmanager
def _used(db: Any, using: str | None) -> Iterator[Connection]:
    """The connection behind `db` or `using`, in a transaction; a missing table is an OutboxError."""
    try:
        connection = connection_of(db, using, "outbox")
    except InboxError as error:
        raise OutboxError(str(error)) from None
    if refusal := connection.refusal():
        raise OutboxError(f"outbox: {refusal}")
    try:
        yield connection
    except Exception as error:  # each driver's own class
        if fault_of(error) is Fault.MISSING:
            command = f"`preforkd inbox sql --outbox --dialect {connection.dialect.name}`"
            raise OutboxError(f"outbox: there is no table {TABLE}: {command} prints what makes it") from error
        raise
