"""The SQL of the outbox: one for each dialect of the inbox, and no lock on a range."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from supervisor.inbox.dialects import DIALECTS
from supervisor.outbox.tables import DROP, LOOK, PUT, TABLES, delete, script, take


def test_every_dialect_of_the_inbox_has_an_outbox() -> None:
    assert TABLES.keys() == DIALECTS.keys()


@pytest.mark.parametrize("dialect", TABLES)
def test_rows_are_looked_for_without_a_lock_and_locked_by_their_ids(dialect: str) -> None:
    assert "FOR UPDATE" not in LOOK
    assert take(dialect, 3).count("%s") == 3
    assert "id IN (%s, %s, %s)" in take(dialect, 3)
    assert take(dialect, 1).endswith("SKIP LOCKED") == (dialect != "sqlite")


def test_the_script_of_sqlite_runs_again_and_keeps_the_rows() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(script("sqlite"))
        for body in (b"one", b"two", b"three"):
            db.execute(PUT.replace("%s", "?"), (body, 0))
        db.execute(PUT.replace("%s", "?"), (b"later", 1000))
        db.executescript(script("sqlite"))
        assert db.execute(LOOK.replace("%s", "?"), (1, 999, 10)).fetchall() == [(2,), (3,)]
        assert db.execute(LOOK.replace("%s", "?"), (1, 1000, 10)).fetchall() == [(2,), (3,), (4,)]
        assert db.execute(take("sqlite", 2).replace("%s", "?"), (3, 1)).fetchall() == [(1, b"one"), (3, b"three")]
        assert db.execute(delete(2).replace("%s", "?"), (1, 2)).rowcount == 2
        db.execute(DROP)
