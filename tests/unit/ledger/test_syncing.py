"""Facts about the Syncer: what is durable when, on a quick disk, a slow one and one that fails."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import LedgerError
from supervisor.ledger import syncing
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.ledger.syncing import Syncer
from tests.support.ledgers import row_of
from tests.support.waiting import eventually


class Disk:
    """Stands in for fdatasync: counts, waits for its gate, fails when asked to."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.threads: list[str] = []
        self.fails = False

    def fdatasync(self, descriptor: int) -> None:
        self.threads.append(threading.current_thread().name)
        assert self.gate.wait(30)
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(os, "fdatasync", disk.fdatasync)
    yield disk
    disk.gate.set()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "log").touch()
    return tmp_path / "log"


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every disk counts as slow."""
    monkeypatch.setattr(syncing, "QUICK_S", 0.0)


def test_a_quick_disk_is_waited_for_on_the_spot(disk: Disk, file: Path) -> None:
    syncer = Syncer(file, lambda: None)
    syncer.sync(1)
    assert syncer.durable == 1
    assert disk.threads == [threading.current_thread().name]
    syncer.close()


def test_a_slow_disk_is_waited_for_in_a_thread_which_tells_when_it_is_done(
    disk: Disk, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch)
    told = threading.Event()
    syncer = Syncer(file, told.set)
    disk.gate.clear()
    syncer.sync(1)
    assert (syncer.durable, told.is_set()) == (0, False)
    disk.gate.set()
    assert told.wait(30)
    assert syncer.durable == 1
    assert disk.threads == ["ledger sync"]
    syncer.close()


def test_a_disk_that_has_become_slow_is_given_to_the_thread(disk: Disk, file: Path) -> None:
    syncer = Syncer(file, lambda: None)
    disk.gate.clear()
    threading.Timer(0.05, disk.gate.set).start()
    syncer.sync(1)  # on the spot, and takes 50 ms
    syncer.sync(2)
    syncer.wait()
    assert disk.threads == [threading.current_thread().name, "ledger sync"]
    assert syncer.durable == 2
    syncer.close()


def test_closing_finishes_the_sync_under_way(disk: Disk, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch)
    syncer = Syncer(file, lambda: None)
    syncer.sync(1)
    syncer.close()
    assert syncer.durable == 1
    assert "ledger sync" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("quick_s", [0.0, 1.0])
def test_i1_what_a_failing_disk_was_given_is_never_durable(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_s: float
) -> None:
    """Not by a later sync either, which would find nothing left to write (fsync(2))."""
    monkeypatch.setattr(syncing, "QUICK_S", quick_s)
    ledger = SqliteLedger(tmp_path / "ledger.db", "full")
    disk.fails = True
    with pytest.raises(LedgerError, match="the disk fails"):
        ledger.commit([row_of("a")], {})
    disk.fails = False
    with pytest.raises(LedgerError, match="opened again"):
        ledger.commit([row_of("b")], {})
    ledger.close()


def test_a_ledger_is_not_durable_before_the_disk_has_said_so(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch)
    ledger = SqliteLedger(tmp_path / "ledger.db", "full")
    disk.gate.clear()
    ledger.begin_commit([row_of("a")], {})
    assert not ledger.durable
    assert len(ledger.look_up([row_of("a").key])[row_of("a").key]) == 1
    disk.gate.set()
    eventually(lambda: ledger.durable, "the commit is durable")
    ledger.close()


def test_sync_normal_asks_nothing_of_the_disk_at_a_commit(disk: Disk, tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", "normal")
    ledger.commit([row_of("a")], {})
    assert disk.threads == []
    ledger.close()


def test_the_log_that_is_synced_is_the_one_that_commits_are_written_to(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", "full")
    assert ledger._syncer is not None
    before = os.fstat(ledger._syncer._file).st_size
    ledger.commit([row_of(str(number)) for number in range(1000)], {})
    assert os.fstat(ledger._syncer._file).st_size > before
    ledger.close()
    again = SqliteLedger(tmp_path / "ledger.db", "full")
    again.commit([row_of("b")], {})
    assert again._syncer is not None
    assert os.path.samestat(os.fstat(again._syncer._file), (tmp_path / "ledger.db-wal").stat())
    again.close()
