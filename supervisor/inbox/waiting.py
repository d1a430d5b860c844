"""Bounds how long the insert of `once` waits for another transaction. Runs in workers.

The servers' own bounds are none (PostgreSQL) and 50 s (InnoDB); a transaction of a dead client can last as long.
The user's setting is kept if it is smaller, and is in force again after the insert. SQLite has its busy timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from supervisor.inbox.connections import Connection
from supervisor.inbox.dialects import MYSQL, POSTGRESQL


def bounded_wait(db: Connection, bound_s: float | None) -> AbstractContextManager[None]:
    """Statements within it wait for locks no longer than `bound_s`; None changes nothing."""
    bound = _BOUNDS.get(db.dialect.name)
    return nullcontext() if bound is None or bound_s is None else bound(db, bound_s)


@contextmanager
def _lock_timeout(db: Connection, bound_s: float) -> Iterator[None]:
    """PostgreSQL's setting for this transaction; an error rolls it back with the rest."""
    bound_ms = max(1, int(bound_s * 1000))
    ((former_ms,),) = db.rows("SELECT setting::integer FROM pg_settings WHERE name = 'lock_timeout'")
    if 0 < former_ms <= bound_ms:
        yield
        return
    db.rows(_SET_LOCK_TIMEOUT, f"{bound_ms}ms")
    yield
    db.rows(_SET_LOCK_TIMEOUT, f"{former_ms}ms")


_SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"


@contextmanager
def _lock_wait_timeout(db: Connection, bound_s: float) -> Iterator[None]:
    """InnoDB's setting for this session, in whole seconds; errors do not roll it back."""
    bound_s = max(1, int(bound_s))
    ((former_s,),) = db.rows("SELECT @@SESSION.innodb_lock_wait_timeout")
    if former_s <= bound_s:
        yield
        return
    db.count(_SET_LOCK_WAIT_TIMEOUT, bound_s)
    try:
        yield
    finally:
        db.count(_SET_LOCK_WAIT_TIMEOUT, former_s)


_SET_LOCK_WAIT_TIMEOUT = "SET SESSION innodb_lock_wait_timeout = %s"

_BOUNDS: dict[str, Callable[[Connection, float], AbstractContextManager[None]]] = {
    POSTGRESQL.name: _lock_timeout,
    MYSQL.name: _lock_wait_timeout,
}
