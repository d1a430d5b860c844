"""Looking into a ledger from outside: what is there is seen, what must not change does not, who uses it is named."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.errors import LedgerError, LedgerUnusable
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.ledger.sqlite_peek import peek_file as peek
from supervisor.messages.identity import message_key
from supervisor.system.locks import FileLock

KEY = message_key("", "work", "m", b"12345678")


@pytest.fixture
def path(path: Path) -> Path:
    with closing(SqliteLedger(path, "normal")) as ledger:
        ledger.commit([Row(KEY, 1, 1, RowState.DONE, -1, 0, 1.0, "m")], {})
    return path


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir()}


def unfinished(path: Path, aside: Path) -> Path:
    """The ledger as a killed consumer leaves it: its last rows in the -wal file only."""
    with closing(SqliteLedger(path, "normal")) as ledger:
        ledger.commit([Row(KEY, 1, 2, RowState.DEAD, -1, 0, 2.0, "m")], {})
        aside.mkdir()
        for file in path.parent.glob("ledger.db*"):
            (aside / file.name).write_bytes(file.read_bytes())
    return aside / path.name


def test_the_rows_of_an_id_are_found_whatever_their_content(path: Path) -> None:
    assert [row.state for row in peek(path, message_key("", "work", "m", bytes(8)))] == [RowState.DONE]
    assert peek(path, message_key("", "work", "other", bytes(8))) == []


def test_looking_changes_nothing_and_leaves_nothing(path: Path) -> None:
    before = files(path.parent)
    peek(path, KEY)
    assert files(path.parent) == before


def test_what_a_killed_consumer_had_committed_is_seen_and_stays_where_it_is(path: Path, tmp_path: Path) -> None:
    left = unfinished(path, tmp_path / "left")
    before = files(left.parent)
    assert before["ledger.db-wal"][0] > 0, "or this shows nothing"
    assert [row.attempt for row in peek(left, KEY)] == [2]
    assert files(left.parent) == before


def test_without_a_ledger_nothing_is_known(tmp_path: Path) -> None:
    assert peek(tmp_path / "ledger.db", KEY) == []


def test_a_ledger_in_use_is_left_alone_and_its_user_named(path: Path) -> None:
    lock = FileLock(path.with_suffix(".lock"))
    try:
        with pytest.raises(LedgerError, match=f"in use by the consumer .pid {os.getpid()}"):
            peek(path, KEY)
    finally:
        lock.close()


def test_a_damaged_ledger_is_explained(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(LedgerUnusable, match="damaged or no ledger"):
        peek(path, KEY)
    with pytest.raises(sqlite3.DatabaseError), closing(sqlite3.connect(path)) as database:
        database.execute("SELECT 1 FROM messages")
