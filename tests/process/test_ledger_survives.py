"""Facts about the ledger in SQLite at its limits: a full disk, a failing disk, many rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import LedgerError
from supervisor.ledger.base import RowState
from supervisor.ledger.sqlite import SqliteLedger
from tests.support.disks import SmallDisk, failing_disk, small_disk
from tests.support.ledgers import found, key_of, row_of


def test_200_000_rows_are_evicted_in_batches_and_the_newest_stay(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", "normal")
    for start in range(0, 200_000, 20_000):
        ledger.commit([row_of(str(n), at_s=float(n)) for n in range(start, start + 20_000)], {})
    ledger.commit([row_of("open", RowState.DISPATCHED, at_s=-1.0)], {})

    aged = early = 0
    while any(batch := ledger.evict(50_000.0, 100_000)):
        aged, early = aged + batch[0], early + batch[1]

    assert (aged, early) == (50_000, 50_001)
    found = ledger.look_up([key_of(str(n)) for n in (99_999, 100_000, 100_001, 199_999)] + [key_of("open")])
    assert [len(rows) for rows in found.values()] == [0, 0, 1, 1, 1]
    ledger.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.mark.root
def test_a_full_disk_loses_no_commit_and_heals_by_opening_again(disk: SmallDisk) -> None:
    path = disk.path / "ledger.db"
    ledger = SqliteLedger(path, "full")
    ledger.commit([row_of("before")], {"done": 1})
    disk.fill()

    written = []
    with pytest.raises(LedgerError, match=r"ledger\.db: the disk is full .*free some space"):
        for number in range(10_000):
            ledger.commit([row_of(f"full-{number}")], {"done": 1})
            written.append(f"full-{number}")
    ledger.close()

    disk.free()
    again = SqliteLedger(path, "full")
    assert all(found(again, id) for id in ["before", *written])
    assert found(again, f"full-{len(written)}") == []
    assert again.counters() == {"done": 1 + len(written)}
    again.commit([row_of("after")], {})
    again.close()


@pytest.mark.root
def test_a_ledger_that_cannot_even_be_made_says_so(disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(LedgerError, match="disk"):
        SqliteLedger(disk.path / "ledger.db", "full")
    disk.free()
    SqliteLedger(disk.path / "ledger.db", "full").close()


@pytest.mark.root
def test_i1_each_commit_that_a_failing_disk_confirmed_is_there_after_its_repair(tmp_path: Path) -> None:
    with failing_disk(tmp_path) as disk:
        path = disk.path / "ledger.db"
        ledger = SqliteLedger(path, "full")
        written = _commit(ledger, range(300))
        disk.fail()

        with pytest.raises(LedgerError, match=r"ledger\.db: the disk fails .*Input/output error"):
            _commit(ledger, range(300, 3000), written)
        ledger.close()
        disk.mount_again()

        again = SqliteLedger(path, "full")
        assert len(written) >= 300
        assert [id for id in written if not found(again, id)] == []
        again.commit([row_of("after")], {})
        again.close()


def _commit(ledger: SqliteLedger, numbers: range, written: list[str] | None = None) -> list[str]:
    """Commit row by row; `written` gains the id of each row whose commit was confirmed."""
    written = [] if written is None else written
    for number in numbers:
        ledger.commit([row_of(f"id-{number}", at_s=float(number))], {"done": 1})
        written.append(f"id-{number}")
    return written
