"""State that is deleted, moved, replaced or set back while a daemon runs or is down: real processes, embedded queue."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually


@pytest.fixture
def under_test(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path, "workers = 1") as running:
        yield running


def settle(running: Daemon, ids: range) -> None:
    """Send these ids and wait until each is settled, as a run or as a duplicate."""
    before = settled(running)
    for number in ids:
        running.send("nothing", message_id=str(number))
    eventually(lambda: settled(running) == before + len(ids), "all are settled")


def settled(running: Daemon) -> int:
    counters = running.pool()["counters"]
    return int(sum(counters.get(name, 0) for name in ("done", "duplicate")))


def pool_dir(running: Daemon) -> Path:
    return running.state_dir / "pools" / "email"


def is_stopped_for(running: Daemon, word: str) -> Callable[[], bool]:
    """Whether the pool is degraded for a reason with this word, and consumes nothing."""

    def stopped() -> bool:
        pool = running.pool()
        return bool(
            pool["state"] == "degraded" and word in pool["why"] and pool["consumer"]["connection"]["state"] == "closed"
        )

    return stopped


def _replace(path: Path) -> None:
    path.rename(path.with_name("former"))
    path.write_bytes(b"of another program")


MISHAPS: dict[str, tuple[Callable[[Daemon], Any], str]] = {
    "the ledger is deleted": (lambda running: (pool_dir(running) / "ledger.db").unlink(), "ledger.db was deleted"),
    "its log is deleted": (lambda running: (pool_dir(running) / "ledger.db-wal").unlink(), "ledger.db-wal was deleted"),
    "the ledger is replaced": (lambda running: _replace(pool_dir(running) / "ledger.db"), "ledger.db was replaced"),
    "the embedded queue is deleted": (lambda running: (running.state_dir / "embedded.db").unlink(), "embedded.db was"),
    "slots are deleted": (lambda running: shutil.rmtree(pool_dir(running) / "slots"), "slots was deleted"),
    "all is deleted": (lambda running: shutil.rmtree(running.state_dir), "was deleted"),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_files_that_are_gone_stop_consumption_with_their_name(under_test: Daemon, mishap: str) -> None:
    strike, said = MISHAPS[mishap]
    settle(under_test, range(3))
    strike(under_test)
    eventually(is_stopped_for(under_test, said), "the pool is degraded, and says why")
    eventually(under_test.has("state.missing"), "the event is there")
    assert len(under_test.events("state.missing")) == 1


def test_a_ledger_that_was_moved_away_and_back_is_used_again(under_test: Daemon) -> None:
    settle(under_test, range(3))
    ledger, elsewhere = pool_dir(under_test) / "ledger.db", pool_dir(under_test) / "elsewhere"
    ledger.rename(elsewhere)
    eventually(is_stopped_for(under_test, "ledger.db was deleted or moved"), "consumption stops")
    elsewhere.rename(ledger)
    eventually(lambda: under_test.pool()["state"] == "ok", "it goes on by itself")
    settle(under_test, range(3))
    assert len(under_test.marked("done")) == 3


def test_a_deleted_ledger_is_written_again_by_an_ordered_stop_and_nothing_runs_again(under_test: Daemon) -> None:
    settle(under_test, range(5))
    (pool_dir(under_test) / "ledger.db").unlink()
    eventually(is_stopped_for(under_test, "ledger.db was deleted"), "consumption stops")
    assert under_test.stop() == 0
    under_test.start()
    settle(under_test, range(5))
    assert len(under_test.marked("done")) == 5
    assert under_test.pool()["symptoms"] == []


@pytest.mark.parametrize("how", ["the ledger deleted after a kill", "the state directory set back"])
def test_what_a_ledger_has_forgotten_runs_again_declared(under_test: Daemon, how: str) -> None:
    settle(under_test, range(2))
    if how == "the state directory set back":
        assert under_test.stop() == 0
        snapshot = under_test.directory / "snapshot"
        shutil.copytree(under_test.state_dir, snapshot)
        under_test.start()
        settle(under_test, range(2, 5))
        assert under_test.stop() == 0
        shutil.rmtree(under_test.state_dir)
        snapshot.rename(under_test.state_dir)
    else:
        settle(under_test, range(2, 5))
        under_test.kill()
        eventually(lambda: not under_test.processes(), "all are gone")
        for name in ("ledger.db", "ledger.db-wal"):
            (pool_dir(under_test) / name).unlink()
    under_test.start()
    eventually(under_test.has("ledger.behind"), "it is noticed")
    assert [each["name"] for each in under_test.pool()["symptoms"]] == ["ledger.behind"]
    settle(under_test, range(5))
    again = sorted(under_test.marked("done")[5:])
    assert again == (["2", "3", "4"] if "set back" in how else ["0", "1", "2", "3", "4"])
    assert sorted(under_test.marked("maybe_duplicate")) == again


def test_an_embedded_queue_that_is_gone_at_a_start_does_not_begin_empty_without_a_word(under_test: Daemon) -> None:
    settle(under_test, range(2))
    assert under_test.stop() == 0
    for file in under_test.state_dir.glob("embedded.db*"):
        file.unlink()
    under_test.start()
    assert "embedded.db was there" in under_test.pool()["symptoms"][0]["text"]
    settle(under_test, range(3))
    assert len(under_test.marked("done")) == 3
