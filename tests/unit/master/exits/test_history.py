"""The exit history: counts outlive the daemon, nothing is counted twice, a full disk loses only what it must."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from supervisor.errors import StateError
from supervisor.logs.events import Cause, Event
from supervisor.master.exits.history import History
from supervisor.master.host import files
from supervisor.master.pool.children import Kind
from supervisor.master.pool.exit_records import ExitRecord


def record(generation: int, cause: Cause = Cause.CRASH, slot: int = 3) -> ExitRecord:
    return ExitRecord(
        at="2026-01-01T00:00:00.000Z",
        event=Event.WORKER_EXITED,
        kind=Kind.WORKER,
        pool="email",
        slot=slot,
        pid=1000 + generation,
        generation=generation,
        cause=cause,
        status=70,
    )


def count(history: History) -> int:
    return sum(row.count for row in history.counts())


def lines(path: Path) -> list[ExitRecord]:
    return [msgspec.json.decode(line, type=ExitRecord) for line in path.read_bytes().splitlines()]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path)
    yield history
    history.close()


def test_a_record_is_one_line_of_the_journal(history: History, tmp_path: Path) -> None:
    history.add(record(1))
    history.add(record(2))
    assert history.flush()
    assert [line.generation for line in lines(tmp_path / "exits.jsonl")] == [1, 2]


def test_the_tally_outlives_the_daemon(tmp_path: Path) -> None:
    first = History(tmp_path)
    first.add(record(1))
    first.add(record(2, Cause.TIMEOUT))
    first.close()
    second = History(tmp_path)
    second.add(record(3))
    second.flush()
    assert msgspec.to_builtins(second.counts()) == [
        {"pool": "email", "kind": "worker", "cause": "crash", "status": 70, "signal": None, "count": 2},
        {"pool": "email", "kind": "worker", "cause": "timeout", "status": 70, "signal": None, "count": 1},
    ]
    assert (second.recorded("email/3"), second.recorded("email/4"), second.youngest("email")) == (3, 0, 3)
    assert second.youngest("ema") == 0
    second.close()


@pytest.mark.parametrize("saved", [0, 1, 2, 3])
def test_a_master_killed_before_it_saved_the_tally_counts_every_record_once(tmp_path: Path, saved: int) -> None:
    killed = History(tmp_path)
    for generation in range(1, 4):
        killed.add(record(generation))
        killed.flush()
        if generation <= saved:
            killed.save(generation * 100.0)
    successor = History(tmp_path)  # the killed one was never closed
    assert count(successor) == 3
    assert successor.recorded("email/3") == 3
    successor.close()
    killed.close()


def test_records_behind_a_rotation_are_counted_once_too(tmp_path: Path) -> None:
    killed = History(tmp_path, max_bytes=600)
    for generation in range(1, 4):
        killed.add(record(generation))
        killed.flush()
        if generation == 1:
            killed.save(100.0)
    assert (tmp_path / "exits.jsonl.1").exists()
    successor = History(tmp_path)
    assert successor.recorded("email/3") == 3
    assert count(successor) == 3
    successor.close()
    killed.close()


def test_a_record_that_waited_while_the_tally_was_saved_is_counted_once(tmp_path: Path) -> None:
    killed = History(tmp_path)
    killed.add(record(1))
    killed.flush()
    killed.add(record(2))
    killed.save(100.0)
    killed.flush()
    successor = History(tmp_path)
    assert count(successor) == 2
    successor.close()
    killed.close()


def test_the_journal_is_bounded(tmp_path: Path) -> None:
    history = History(tmp_path, max_bytes=4000)
    for generation in range(1, 200):
        history.add(record(generation))
        history.flush()
    history.close()
    sizes = [(tmp_path / name).stat().st_size for name in ("exits.jsonl", "exits.jsonl.1")]
    assert max(sizes) <= 4000
    assert lines(tmp_path / "exits.jsonl")[-1].generation == 199
    reopened = History(tmp_path)
    assert count(reopened) == 199
    reopened.close()


def test_a_line_torn_by_a_power_cut_spoils_no_other(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(record(1))
    history.close()
    with (tmp_path / "exits.jsonl").open("ab") as journal:
        journal.write(b'{"at": "2026')
    after = History(tmp_path)
    after.add(record(2))
    after.close()
    whole = (tmp_path / "exits.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=ExitRecord).generation for line in (whole[0], whole[2])] == [1, 2]


def test_a_damaged_tally_is_set_aside_and_counted_again(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(record(1))
    history.close()
    (tmp_path / "exits.tally.json").write_bytes(b"{")
    after = History(tmp_path)
    assert count(after) == 1
    assert (tmp_path / "exits.tally.json.damaged").exists()
    after.close()


def test_a_history_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    (tmp_path / "exits.jsonl").mkdir()
    with pytest.raises(StateError, match=r"exits\.jsonl: the exit history cannot be opened"):
        History(tmp_path)


class FullDisk:
    """A disk that takes `room` more bytes, then says ENOSPC, after a part of the write as a real one does."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(28, "No space left on device")
        written = self._write(descriptor, data[: self.room])
        self.room -= written
        return written


def test_records_wait_for_a_full_disk_and_no_half_line_stays(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    history.add(record(1))
    history.flush()
    with monkeypatch.context() as patched:
        patched.setattr(files.os, "write", FullDisk(50).write)
        history.add(record(2))
        history.add(record(3))
        assert not history.flush()
        assert not history.flush()
    assert history.due_s < float("inf")
    assert len(lines(tmp_path / "exits.jsonl")) == 1
    assert history.flush()
    assert [line.generation for line in lines(tmp_path / "exits.jsonl")] == [1, 2, 3]
    texts = [entry.getMessage() for entry in caplog.records]
    assert len(texts) == 2, "told once when it fails, once when it heals"
    assert "they wait in memory" in texts[0]
    assert "0 had to be dropped" in texts[1]


def test_what_waits_is_bounded_and_what_was_dropped_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(tmp_path, max_waiting=10)
    with monkeypatch.context() as patched:
        patched.setattr(files.os, "write", FullDisk(0).write)
        for generation in range(1, 26):
            history.add(record(generation))
            history.flush()
    assert history.flush()
    assert [line.generation for line in lines(tmp_path / "exits.jsonl")] == list(range(16, 26))
    assert count(history) == 25
    assert "15 had to be dropped" in caplog.records[-1].getMessage()
    history.close()
