"""`once`: a block in the user's own transaction whose effect happens once, whatever happens to its worker.

Runs in workers. The order is the guarantee: first the identity of the database is recorded, then the row is written,
then the effect happens, then what was published is added to the row, and the user's commit makes all of it true at
once. It must never begin, commit or roll back: a transaction that ends by itself would break the user's.
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from supervisor.api import Message, sendable_publications
from supervisor.inbox.dialects import HOST_CHARACTERS, KEY_BYTES
from supervisor.inbox.errors import InboxGivenUp, InboxPartial
from supervisor.inbox.finding import connection_of
from supervisor.inbox.row import Row
from supervisor.inbox.stored import OPEN, packed, unpacked
from supervisor.messages.inbox_run import InboxError, InboxRun

_LONGEST_WAIT_S = 10.0


@contextmanager
def once(message: Message, db: Any = None, *, using: str | None = None) -> Iterator[bool]:
    """A block around a message's effect in a database; gives True if the effect is to happen, False if it has.

    `db`: a connection of psycopg, psycopg2, PyMySQL, mysqlclient or sqlite3, or a Session or Connection of SQLAlchemy,
    in a transaction that the handler commits after the block. `using`: instead of it, the alias of one of Django's
    databases, inside of `transaction.atomic()`. `message.publish` works inside of the block only; where the block gives
    False, what the earlier attempt has published is sent again.

    Raises InboxError for a wrong use, InboxBusy (a Retry) if another transaction holds the message's row, InboxPartial
    and InboxGivenUp (both are a Reject), and what the driver raises. Let all of them leave the handler.

    Outside a worker, in a test of a handler, a message has no key: the row is that of its id then (of its body if it
    has none), and a block in a savepoint is not refused.
    """
    run = message.inbox_run()
    try:
        row = _row(message, run, db, using)
        first = _is_first(message, run, row)
        yield first
        if first:
            row.finish(packed(sendable_publications(message.publications)))
        run.leave(row.open_until_ended() if first else lambda: False)
    except BaseException as error:
        run.fail("".join(traceback.format_exception_only(error)).strip())
        raise


def _row(message: Message, run: InboxRun, db: Any, using: str | None) -> Row:
    """The message's row, not written yet, in a database that may be used. Raises InboxError."""
    connection = connection_of(db, using, "once")
    if refusal := connection.refusal():
        raise InboxError(f"once: {refusal}")
    if message.publications:
        raise InboxError(
            "once: the handler has published before the block, and a crash after the commit would lose that: publish "
            "inside of the block"
        )
    row = Row(connection, key_of(message), message.round)
    run.begin(row.identity())
    return row


def _is_first(message: Message, run: InboxRun, row: Row) -> bool:
    """Write the row, or read what an earlier attempt has written."""
    first = row.insert(message.attempt, socket.gethostname()[:HOST_CHARACTERS], longest_wait_s(message))
    if first and message.key:
        row.refuse_savepoint()
    if first and run.given_up:
        raise InboxGivenUp("no earlier attempt of it has committed, so its effect has not happened")
    if not first:
        _repeat(message, row)
    run.answered(first)
    return first


def _repeat(message: Message, row: Row) -> None:
    """Publish what the earlier attempt has published. Raises InboxPartial if it was committed inside of its block."""
    earlier = row.earlier()
    if earlier.publications == OPEN:
        raise InboxPartial(
            f"attempt {earlier.attempt} on {earlier.host} was committed in the middle of its `once` block and then "
            "ended: a part of its effect is in the database; compare by hand, and commit only after the block"
        )
    message.publications.extend(unpacked(earlier.publications))


def key_of(message: Message) -> bytes:
    """The key of the message's row."""
    return message.key or blake2b(message.id.encode() or message.body, digest_size=KEY_BYTES).digest()


def longest_wait_s(message: Message) -> float | None:
    """How long the insert may wait for another transaction; None (the server's own bound) for a plain first attempt."""
    if message.attempt == 1 and not message.redelivered and not message.maybe_duplicate:
        return None
    return min(_LONGEST_WAIT_S, message.remaining_s / 2)
