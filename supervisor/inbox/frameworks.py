"""SQLAlchemy's and Django's connections for `once`, on top of the driver's. Runs in workers; imports neither.

Statements go through the framework, so that its own record of the transaction stays true: SQLAlchemy begins with the
first statement, and both log. What only the driver knows (autocommit, a failed transaction) is asked of the driver.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

from supervisor.inbox.connections import Connection, DbapiConnection, Query, plain
from supervisor.messages.inbox_run import InboxError

ROLLED_BACK = "the transaction of the `once` block was rolled back, and the handler went on"


class _Framework(Connection):
    """`driver`: the same connection without the framework."""

    def __init__(self, connection: Any, driver: DbapiConnection) -> None:
        self.connection = connection
        self.driver = driver
        self.dialect = driver.dialect

    def place(self) -> str:
        return self.driver.place()


class SqlAlchemy(_Framework):
    """`sqlalchemy.Connection`, also that of a session, which has another one after each commit and rollback."""

    def __init__(self, current: Callable[[], Any], driver: DbapiConnection) -> None:
        super().__init__(current(), driver)
        self._current = current

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return [tuple(map(plain, row)) for row in self._run(sql, parameters).fetchall()]

    def count(self, sql: str, *parameters: object) -> int:
        with closing(self._run(sql, parameters)) as result:
            return int(result.rowcount)

    def _run(self, sql: str, parameters: tuple[object, ...]) -> Any:
        return self._current().exec_driver_sql(self.driver.in_style(sql), parameters)

    def refusal(self) -> str:
        return self.driver.refusal()

    def is_in_savepoint(self) -> bool:
        return bool(self.connection.in_nested_transaction())

    def open_until_ended(self, transaction: int, row: Query) -> Callable[[], bool]:
        connection = self._current()
        begun, committed = connection.get_transaction(), list[bool]()
        listen = sys.modules["sqlalchemy.event"].listen
        for name in ("commit", "commit_twophase"):
            listen(connection, name, lambda *told: committed.append(True))

        def is_open() -> bool:
            if begun is not None and begun.is_active:
                return True
            if not committed:
                raise InboxError(ROLLED_BACK)
            return False

        return is_open


class Django(_Framework):
    """A connection of `django.db.connections`, within `transaction.atomic()`."""

    tells_rollbacks = True

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [tuple(map(plain, row)) for row in cursor.fetchall()]

    def count(self, sql: str, *parameters: object) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

    def refusal(self) -> str:
        if self.connection.in_atomic_block:
            return ""
        return f'there is no transaction: use it inside of `transaction.atomic(using="{self.connection.alias}")`'

    def open_until_ended(self, transaction: int, row: Query) -> Callable[[], bool]:
        """Django tells a commit, and no rollback, also not that of an outer block."""
        committed: list[bool] = []
        on_commit = sys.modules["django.db.transaction"].on_commit
        on_commit(lambda: committed.append(True), using=self.connection.alias)
        return lambda: not committed and self._is_open()

    def _is_open(self) -> bool:
        if self.connection.in_atomic_block:
            return True
        raise InboxError(ROLLED_BACK)
