"""Facts about the ledger under real faults: kill -9 of its writer, a full disk, two users, many rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import LedgerError
from supervisor.ledger.base import RowState
from supervisor.ledger.sqlite import SqliteLedger
from tests.support.children import snippet
from tests.support.disks import SmallDisk, small_disk
from tests.support.ledgers import found, key_of, row_of

WRITER = """
import sys
from pathlib import Path
from supervisor.ledger.base import RowState
from supervisor.ledger.sqlite import SqliteLedger
from tests.support.ledgers import row_of

ledger = SqliteLedger(Path(sys.argv[1]), "normal")
print("open", flush=True)
number = int(sys.argv[2])
while True:
    ledger.commit([row_of(f"{number}-{part}", RowState.DISPATCHED) for part in "abc"], {"commits": 1})
    print(number, flush=True)
    number += 1
"""


def test_kill_9_of_the_writer_keeps_every_whole_commit_and_no_half_one(tmp_path: Path) -> None:
    path, number, commits = tmp_path / "ledger.db", 0, 0
    for seed in range(6):
        with snippet(WRITER, str(path), str(number)) as writer:
            assert writer.line() == "open"
            told = [int(writer.line()) for _ in range(random.Random(seed).randrange(1, 60))]
            told += [int(line) for line in writer.kill()]
        ledger = SqliteLedger(path, "normal")
        parts = {n: [part for part in "abc" if found(ledger, f"{n}-{part}")] for n in range(number, told[-1] + 3)}
        counted = ledger.counters()["commits"]
        ledger.close()
        assert all(parts[n] == ["a", "b", "c"] for n in told)
        assert parts[told[-1] + 1] in ([], ["a", "b", "c"])  # it may have died between commit and telling
        assert parts[told[-1] + 2] == []
        commits += len(told) + bool(parts[told[-1] + 1])
        assert counted == commits
        number = told[-1] + 10


def test_a_ledger_in_use_by_another_process_is_refused_until_that_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with snippet(WRITER, str(path), "0") as writer:
        assert writer.line() == "open"
        with pytest.raises(LedgerError, match=rf"in use by another consumer \(pid {writer.pid}\)"):
            SqliteLedger(path, "full")
        writer.kill()
    SqliteLedger(path, "full").close()


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
