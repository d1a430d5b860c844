"""Facts about the SQL of the inbox, and about times and keys that need no server."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from supervisor.api import Message
from supervisor.inbox import InboxError, clean, once
from supervisor.inbox.dialects import DIALECTS, SQLITE, script
from supervisor.inbox.once import key_of, longest_wait_s

_SINCE_312 = pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has it since Python 3.12")


class Limit:
    """A run that may last for so many seconds more."""

    is_over = False

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def remaining_s(self) -> float:
        return self._seconds

    def extend(self, seconds: float) -> None: ...


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "inbox.db")) as made:
        made.executescript(script(SQLITE))
        yield made


def test_every_dialect_has_each_parameter_in_the_same_place() -> None:
    for dialect in DIALECTS.values():
        parameters = [dialect.identity, dialect.insert, dialect.finish, dialect.read, dialect.clean]
        assert [sql.count("%s") for sql in parameters] == [1, 5, 3, 2, 2], dialect.name


def test_the_script_of_sqlite_runs_again_and_keeps_the_identity(db: sqlite3.Connection) -> None:
    identity = db.execute("SELECT publications FROM preforkd_inbox").fetchall()
    db.executescript(script(SQLITE))
    assert db.execute("SELECT publications FROM preforkd_inbox").fetchall() == identity
    assert len(identity[0][0]) == 16


def test_a_test_of_a_handler_needs_no_worker_and_the_id_decides(db: sqlite3.Connection) -> None:
    answers = []
    for given in (Message(b"a", id="m-1"), Message(b"b", id="m-1"), Message(b"a", id="m-2"), Message(b"a")):
        with once(given, db) as first:
            answers.append(first)
        db.commit()
    assert answers == [True, False, True, True]


@pytest.mark.parametrize(
    "settings",
    [{}, {"isolation_level": "IMMEDIATE"}, pytest.param({"autocommit": False}, marks=_SINCE_312)],
    ids=["default", "immediate", "autocommit=False"],
)
def test_the_end_of_a_transaction_is_told_in_each_mode_of_sqlite3(
    settings: dict[str, Any], db: sqlite3.Connection, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "inbox.db", **settings)) as own:
        with once(message := Message(b"", id="m"), own) as first:
            pass
        assert first and "still open" in message.inbox_run().fault()
        own.commit()
        assert message.inbox_run().fault() == ""
    assert message.inbox_run().fault() == ""


@pytest.mark.parametrize(
    "settings", [{"isolation_level": None}, pytest.param({"autocommit": True}, marks=_SINCE_312)], ids=["none", "true"]
)
def test_each_autocommit_of_sqlite3_is_refused(
    settings: dict[str, Any], db: sqlite3.Connection, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "inbox.db", **settings)) as own:
        with pytest.raises(InboxError, match="BEGIN IMMEDIATE"):
            once(Message(b"", id="m"), own).__enter__()
        own.execute("BEGIN IMMEDIATE")
        with once(Message(b"", id="m"), own) as first:
            assert first


def test_a_key_of_a_worker_is_the_key_of_the_row() -> None:
    assert key_of(Message(b"", id="m", key=b"k" * 24)) == b"k" * 24
    assert len(key_of(Message(b"", id="m"))) == len(key_of(Message(b""))) == 24


@pytest.mark.parametrize(
    ("message", "wait_s"),
    [
        (Message(b""), None),
        (Message(b"", limit=Limit(4)), None),
        (Message(b"", attempt=2), 10),
        (Message(b"", attempt=2, limit=Limit(4)), 2),
        (Message(b"", redelivered=True, limit=Limit(100)), 10),
        (Message(b"", maybe_duplicate=True, limit=Limit(-1)), 0),
    ],
)
def test_a_run_that_may_meet_an_earlier_one_waits_for_half_of_its_time_at_most(
    message: Message, wait_s: float | None
) -> None:
    assert longest_wait_s(message) == wait_s


def test_cleaning_takes_old_rows_in_parts_and_never_the_identity(db: sqlite3.Connection) -> None:
    for number in range(3):
        with once(Message(b"", id=f"m-{number}"), db):
            pass
    db.execute("UPDATE preforkd_inbox SET at = datetime('now', '-2 days')")
    with once(Message(b"", id="m-3"), db):
        pass

    assert [clean(db, timedelta(days=1), limit=2) for _ in range(3)] == [2, 1, 0]
    assert db.execute("SELECT count(*), max(length(publications)) FROM preforkd_inbox").fetchall() == [(2, 16)]
    assert db.in_transaction, "the caller commits"


@pytest.mark.parametrize("given", [{"older_than": timedelta(-1)}, {"older_than": timedelta(1), "limit": -1}])
def test_cleaning_refuses_what_would_delete_the_wrong_rows(db: sqlite3.Connection, given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="neither may be negative"):
        clean(db, **given)  # type: ignore[arg-type]
