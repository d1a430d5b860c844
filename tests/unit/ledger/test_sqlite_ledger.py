"""Facts about the ledger in SQLite that its interface does not state: its log, its batches, files that are refused."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.errors import LedgerError, LedgerUnusable
from supervisor.ledger import sqlite
from supervisor.ledger.base import RowState
from supervisor.ledger.sqlite import SqliteLedger
from tests.support.descriptors import descriptors
from tests.support.ledgers import found, key_of, row_of

OPEN = [state for state in RowState if state.open]
WITHOUT_EPOCHS = Path(__file__).with_name("schema-2-without-epochs.db.gz")


def change(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement, values)
    database.close()


# ---- the log ------------------------------------------------------------------------------------------------------


def left_by_a_crash(path: Path, folder: Path) -> Path:
    """What a consumer that died now would leave of this ledger, which it has open."""
    folder.mkdir()
    for file in (path, log_of(path)):
        shutil.copyfile(file, folder / file.name)
    return folder / path.name


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def test_i1_what_is_left_in_the_log_is_written_again_before_anything_is_added_to_it(
    ledger: SqliteLedger, path: Path, tmp_path: Path
) -> None:
    """Its pages may have failed to be synced: then the kernel takes them for written, and no later sync writes them."""
    ledger.commit([row_of("a")], {})
    left = left_by_a_crash(path, tmp_path / "left")
    again = SqliteLedger(left, "full")
    assert len(found(again, "a")) == 1
    log_of(left).unlink()  # nothing depends on it
    with closing(sqlite3.connect(f"file:{left}?immutable=1", uri=True)) as database:
        assert database.execute("SELECT count(*) FROM settled").fetchone() == (1,)
    again.close()


# ---- batches ------------------------------------------------------------------------------------------------------


def test_one_eviction_forgets_a_batch_at_most(ledger: SqliteLedger) -> None:
    ledger.commit([row_of(f"r{n}", at_s=0.0) for n in range(2 * sqlite.EVICT_BATCH)], {})
    assert [ledger.evict(1.0, 10**6) for _ in range(3)] == [(sqlite.EVICT_BATCH, 0), (sqlite.EVICT_BATCH, 0), (0, 0)]


# ---- former formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("boot", "epoch"), [("the file's boot", 0), ("another boot", 1)])
def test_a_ledger_that_was_made_before_rows_had_epochs_is_opened_with_all_it_knows(
    path: Path, monkeypatch: pytest.MonkeyPatch, boot: str, epoch: int
) -> None:
    """The file has a message in each state, and was closed. Its rows count as of the boot that it was last used in."""
    path.write_bytes(gzip.decompress(WITHOUT_EPOCHS.read_bytes()))
    monkeypatch.setattr(sqlite, "boot_id", lambda: boot)
    for _opening in range(2):
        with closing(SqliteLedger(path, "full")) as ledger:
            assert [found(ledger, state) for state in RowState] == [[row_of(state, state)] for state in RowState]
            assert {row.id: row.epoch for row in ledger.open_rows()} == dict.fromkeys(OPEN, 0)
            assert (ledger.epoch, ledger.counters()) == (epoch, {"commits": len(RowState)})
            ledger.commit([row_of(state, state) for state in RowState], {})


# ---- refusals -----------------------------------------------------------------------------------------------------


def refusal(path: Path, lasting: bool) -> str:
    """The text of the error; `lasting`: whether it is one that waiting does not heal."""
    with pytest.raises(LedgerError) as raised:
        SqliteLedger(path, "full")
    assert isinstance(raised.value, LedgerUnusable) == lasting
    assert str(path.parent) in str(raised.value)
    return str(raised.value)


def test_an_unknown_schema_version_is_refused(ledger: SqliteLedger, path: Path) -> None:
    ledger.close()
    change(path, "UPDATE meta SET value = 99 WHERE name = 'schema'")
    assert "schema 99, this one knows 2" in refusal(path, lasting=True)


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    change(path, "CREATE TABLE theirs (a)")
    assert "another version" in refusal(path, lasting=True)
    change(path, "INSERT INTO theirs VALUES (1)")


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    assert "damaged" in refusal(path, lasting=True)


def test_a_damaged_page_is_told_when_it_is_met(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([row_of(f"r{n}") for n in range(2000)], {})
    ledger.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xa5" * (size - 8 * 4096))
    with pytest.raises(LedgerUnusable, match=r"damaged.*move it"):
        damaged = SqliteLedger(path, "full")
        try:
            damaged.look_up([key_of(f"r{n}") for n in range(2000)])
        finally:
            damaged.close()


def test_a_refusal_gives_the_lock_up(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    refusal(path, lasting=True)
    path.unlink()
    SqliteLedger(path, "full").close()


@pytest.mark.parametrize(
    "damage", ["UPDATE settled SET rows = x'C1'", "UPDATE meta SET value = 99 WHERE name = 'schema'"]
)
def test_a_ledger_that_cannot_be_used_is_not_kept_open(ledger: SqliteLedger, path: Path, damage: str) -> None:
    """Also while a caller keeps the error, and with it what the opening had come to."""
    ledger.commit([row_of("a")], {})
    ledger.close()
    change(path, damage)
    before = descriptors()
    with pytest.raises(LedgerUnusable) as kept:
        SqliteLedger(path, "full")
    assert (descriptors(), type(kept.value)) == (before, LedgerUnusable)


def test_a_ledger_that_cannot_be_synced_is_not_kept_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(log: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(sqlite, "begin_syncing", fails)
    before = descriptors()
    with pytest.raises(LedgerError, match="Too many open files") as kept:
        SqliteLedger(path, "full")
    assert (descriptors(), type(kept.value)) == (before, LedgerError)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path / "nowhere" / "ledger.db", lasting=False)
