"""Ledgers made for a benchmark are ledgers: the consumer's own code opens and counts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench import ledgers
from supervisor.ledger import schema
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.sqlite import SqliteLedger


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ledgers, "FOLDER", tmp_path / "kept")
    return ledgers.ledger(1000)[0] / ledgers.NAME


def test_a_made_ledger_opens_as_one_of_ours_with_all_rows_closed(made: Path) -> None:
    ledger = SqliteLedger(made, "full")
    assert list(ledger.open_rows()) == []
    assert ledger.size()[0] == 1000
    assert ledger.evict(0.0, 999) == (0, 1)
    ledger.commit([Row(bytes(24), 1, 1, RowState.DONE, 0, 1, 0.0, "new")], {})
    assert len(ledger.look_up([bytes(24)])[bytes(24)]) == 1
    ledger.close()


def test_its_keys_and_ids_are_as_long_as_real_ones(made: Path) -> None:
    with ledgers.closing(ledgers.sqlite3.connect(made)) as database:
        records = [schema.unpack(record) for (record,) in database.execute("SELECT rows FROM settled")]
    rows = [row for record in records for row in record]
    assert {(len(row.key), len(row.id)) for row in rows} == {(24, 36)}
    assert len({row.key for row in rows}) == 1000


def test_each_of_its_rows_is_found_under_its_key(made: Path) -> None:
    with ledgers.closing(ledgers.sqlite3.connect(made)) as database:
        (record,) = database.execute("SELECT rows FROM settled ORDER BY seq DESC").fetchone()
    rows = {row.key: [row] for row in schema.unpack(record)}
    ledger = SqliteLedger(made, "full")
    assert ledger.look_up(list(rows)) == rows
    ledger.close()


def test_a_ledger_is_made_once(made: Path) -> None:
    before = made.stat().st_mtime_ns
    assert ledgers.ledger(1000) == (made.parent, 0.0)
    assert made.stat().st_mtime_ns == before


def test_what_a_daemon_has_left_beside_its_ledger_is_removed_but_not_the_ledgers_log(made: Path) -> None:
    for name in ("ledger.db-wal", "ledger.lock", "board"):
        (made.parent / name).touch()
    (made.parent / "slots").mkdir()
    ledgers.ledger(1000)
    assert {path.name for path in made.parent.iterdir()} == {"ledger.db", "ledger.db-wal"}
