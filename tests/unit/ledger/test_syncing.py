"""Facts about syncing: what is durable when, on a disk that works and one that fails; by the kernel or a thread."""

from __future__ import annotations

import errno
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.errors import LedgerError
from supervisor.ledger import kernel_aio, sqlite, syncing
from supervisor.ledger.base import GRANTED
from supervisor.ledger.kernel_aio import KernelSync
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.ledger.syncing import Sync, ThreadSync
from tests.support.descriptors import descriptors
from tests.support.ledgers import key_of, row_of
from tests.support.waiting import eventually

DEADLINE_MS = 30_000


class Disk:
    """Stands in for a `Sync`: ends when told to, fails when told to, counts."""

    def __init__(self) -> None:
        self.begun = self.closed = 0
        self.works = True
        self._news = os.eventfd(0, os.EFD_NONBLOCK)
        self._fails = False

    def fileno(self) -> int:
        return self._news

    def begin(self) -> None:
        self.begun += 1
        if self.works:
            self.end()

    def end(self, fails: bool = False) -> None:
        """What was begun ends now."""
        self._fails = fails
        os.eventfd_write(self._news, 1)

    def ended(self) -> bool:
        try:
            os.eventfd_read(self._news)
        except BlockingIOError:
            return False
        if self._fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return True

    def close(self) -> None:
        if not self.closed:
            os.close(self._news)
        self.closed += 1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(sqlite, "begin_syncing", lambda file: disk)
    yield disk
    disk.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(4096))
    yield descriptor
    os.close(descriptor)


def readable(sync: Sync, timeout_ms: int) -> bool:
    poll = select.poll()
    poll.register(sync.fileno(), select.POLLIN)
    return bool(poll.poll(timeout_ms))


def refused(file: int) -> KernelSync:
    """A kernel without asynchronous I/O, or a sandbox that keeps it."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


# ---- the two ways ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [KernelSync, ThreadSync])
def test_the_descriptor_tells_when_a_sync_has_ended(way: Callable[[int], Sync], file: int) -> None:
    sync = way(file)
    for _ in range(3):
        assert not sync.ended()
        assert not readable(sync, 0)
        sync.begin()
        assert readable(sync, DEADLINE_MS)
        assert sync.ended()
        assert not readable(sync, 0)
    sync.close()


@pytest.mark.parametrize("way", [KernelSync, ThreadSync])
def test_closing_leaves_no_descriptor_and_no_thread(way: Callable[[int], Sync], file: int) -> None:
    before = descriptors(), threading.active_count()
    sync = way(file)
    sync.begin()
    sync.close()
    assert (descriptors(), threading.active_count()) == before


def fails(*arguments: object) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def contexts() -> int:
    """How many the kernel keeps for us: each has a mapping."""
    return Path("/proc/self/maps").read_text().count("/[aio]")


@pytest.mark.parametrize(("way", "missing"), [(KernelSync, "eventfd"), (ThreadSync, "eventfd"), (ThreadSync, "pipe2")])
def test_what_cannot_begin_for_want_of_descriptors_leaves_nothing(
    way: Callable[[int], Sync], missing: str, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors(), contexts(), threading.active_count()
    with monkeypatch.context() as patched:
        patched.setattr(os, missing, fails)
        with pytest.raises(OSError, match="Too many open files"):
            way(file)
    assert (descriptors(), contexts(), threading.active_count()) == before


def test_the_kernel_does_it_here_without_a_thread(file: int) -> None:
    threads = threading.active_count()
    sync = syncing.begin_syncing(file)
    assert isinstance(sync, KernelSync)
    assert threading.active_count() == threads
    sync.close()


def test_a_thread_does_it_where_the_kernel_does_not(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "KernelSync", refused)
    sync = syncing.begin_syncing(file)
    assert isinstance(sync, ThreadSync)
    sync.close()


def test_the_thread_need_not_wait_long_for_the_interpreter_which_then_is_as_it_was(file: int) -> None:
    before_s = sys.getswitchinterval()
    sync = ThreadSync(file)
    assert sys.getswitchinterval() < 0.001 < before_s
    sync.close()
    assert sys.getswitchinterval() == before_s


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_32_bit_program_on_a_64_bit_kernel_does_not_use_the_numbers_of_that(machine: str) -> None:
    """206 would be setgroups(2) there."""
    assert -1 not in kernel_aio.numbers(machine, 8)
    assert set(kernel_aio.numbers(machine, 4)) == {-1}


def test_an_unknown_machine_counts_as_a_kernel_that_does_not(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_aio, "_SETUP", -1)
    sync = syncing.begin_syncing(file)
    assert isinstance(sync, ThreadSync)
    sync.close()


def test_i1_an_error_that_the_kernel_reports_at_the_end_is_raised(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = KernelSync(file)
    with monkeypatch.context() as patched:
        os.eventfd_write(sync.fileno(), 1)
        patched.setattr(kernel_aio, "_call", lambda number, *arguments: 1)  # one event, and this is it:
        sync._event.result = -errno.EIO
        with pytest.raises(OSError, match="Input/output error"):
            sync.ended()
    sync.close()


def test_a_sync_has_not_ended_before_its_descriptor_says_so(file: int) -> None:
    """Or what the descriptor says would never be taken, and wake the loop again and again."""
    sync = KernelSync(file)
    sync.begin()
    assert readable(sync, DEADLINE_MS)
    os.eventfd_read(sync.fileno())  # as if the kernel had not told it yet
    assert not sync.ended()
    os.eventfd_write(sync.fileno(), 1)
    assert sync.ended()
    assert not readable(sync, 0)
    sync.close()


def test_what_cannot_be_synced_is_refused_at_once() -> None:
    hear, ask = os.pipe()
    sync = KernelSync(hear)
    with pytest.raises(OSError, match="Invalid argument"):
        sync.begin()
    sync.close()
    os.close(hear)
    os.close(ask)


def test_i1_an_error_in_the_thread_is_raised_where_it_is_asked_for(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails)
    sync = ThreadSync(file)
    sync.begin()
    assert readable(sync, DEADLINE_MS)
    with pytest.raises(OSError, match="Input/output error"):
        sync.ended()
    sync.close()


# ---- the ledger ------------------------------------------------------------------------------------------------------


def test_opening_waits_for_the_disk(disk: Disk, tmp_path: Path) -> None:
    disk.works = False
    threading.Timer(0.05, disk.end).start()
    ledger = SqliteLedger(tmp_path / "ledger.db", "full")
    assert disk.begun == 1
    assert ledger.results() is not None
    ledger.close()


def test_i1_an_opening_that_the_disk_fails_is_refused(disk: Disk, tmp_path: Path) -> None:
    disk.works = False
    disk.end(fails=True)
    with pytest.raises(LedgerError, match="the disk fails"):
        SqliteLedger(tmp_path / "ledger.db", "full")


def test_i1_what_a_failing_disk_was_given_is_never_durable(disk: Disk, tmp_path: Path) -> None:
    """Not by a later sync either, which would find nothing left to write (fsync(2))."""
    ledger = SqliteLedger(tmp_path / "ledger.db", "full")
    disk.works = False
    ledger.submit({key_of("a"): row_of("a")}, {})
    disk.end(fails=True)
    with pytest.raises(LedgerError, match="the disk fails"):
        ledger.results()
    disk.works = True
    with pytest.raises(LedgerError, match="opened again"):
        ledger.commit([row_of("b")], {})
    ledger.close()


def test_i1_a_sync_that_cannot_even_begin_is_a_disk_that_fails(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses() -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    ledger = SqliteLedger(tmp_path / "ledger.db", "full")
    monkeypatch.setattr(disk, "begin", refuses)
    with pytest.raises(LedgerError, match="the disk fails"):
        ledger.commit([row_of("a")], {})
    ledger.close()


def test_i1_a_ledger_is_not_durable_before_the_disk_has_said_so(disk: Disk, tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", "full")
    disk.works = False
    ledger.submit({key_of("a"): row_of("a")}, {})
    assert ledger.results() is None
    assert len(ledger.look_up([row_of("a").key])[row_of("a").key]) == 1
    disk.end()
    assert ledger.results() == GRANTED
    ledger.close()


@pytest.mark.parametrize("way", [KernelSync, ThreadSync])
def test_the_ledger_tells_by_its_descriptor_when_a_commit_is_durable(
    way: Callable[[int], Sync], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "begin_syncing", way)
    ledger = SqliteLedger(tmp_path / "ledger.db", "full")
    descriptor = ledger.fileno()
    assert descriptor is not None
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    ledger.submit({key_of("a"): row_of("a")}, {})
    assert poll.poll(DEADLINE_MS)
    eventually(ledger.results, "the commit is durable")
    ledger.close()


def test_sync_normal_asks_nothing_of_the_disk_at_a_commit(disk: Disk, tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", "normal")
    ledger.commit([row_of("a")], {})
    assert (disk.begun, ledger.fileno()) == (0, None)
    ledger.close()


def test_the_log_that_is_synced_is_the_one_that_commits_are_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = []

    def noted(file: int) -> Sync:
        logs.append(file)
        return syncing.begin_syncing(file)

    monkeypatch.setattr(sqlite, "begin_syncing", noted)
    ledger = SqliteLedger(tmp_path / "ledger.db", "full")
    before = os.fstat(logs[0]).st_size
    ledger.commit([row_of(str(number)) for number in range(1000)], {})
    assert os.fstat(logs[0]).st_size > before
    ledger.close()
    again = SqliteLedger(tmp_path / "ledger.db", "full")
    again.commit([row_of("b")], {})
    assert os.path.samestat(os.fstat(logs[1]), (tmp_path / "ledger.db-wal").stat())
    again.close()
