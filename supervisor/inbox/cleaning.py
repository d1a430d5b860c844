"""Deletes old rows of the inbox. Called by user code, from a timer: only user code has the database.

A row is needed for as long as its message can come back: `ledger.keep`, and the longest delay of a retry.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from supervisor.inbox.finding import connection_of


def clean(db: Any, older_than: timedelta, limit: int = 10_000) -> int:
    """Delete at most `limit` rows whose transactions began longer than `older_than` ago; returns how many.

    `db`: a connection as for `once`, or one of Django's; autocommit is allowed here. It commits nothing: call it,
    commit, and go on while it returns `limit`. The database's own clock counts. Raises ValueError for a negative age or
    limit, InboxError for a connection that it cannot use, and what the driver raises.
    """
    if older_than < timedelta(0) or limit < 0:
        raise ValueError(f"clean: older_than={older_than}, limit={limit}: neither may be negative")
    connection = connection_of(db, None, "clean")
    parameters = (int(older_than.total_seconds()), limit)
    if connection.dialect.returns_rows:
        ((deleted,),) = connection.rows(connection.dialect.clean, *parameters)
        return int(deleted)
    return connection.count(connection.dialect.clean, *parameters)
