"""Facts about the ledger's contract, on a real file: rows, counters, eviction, boots, refusals."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.errors import LedgerError, LedgerUnusable
from supervisor.ledger import sqlite
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.sqlite import SqliteLedger
from tests.support.descriptors import descriptors
from tests.support.ledgers import found, key_of, row_of

OPEN = [state for state in RowState if state.open]
CLOSED = [state for state in RowState if not state.open]


def reopened(ledger: SqliteLedger, path: Path) -> SqliteLedger:
    ledger.close()
    return SqliteLedger(path, "normal")


def change(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement, values)
    database.close()


def ids(rows: list[Row]) -> list[str]:
    return [row.id for row in rows]


# ---- rows ---------------------------------------------------------------------------------------------------------


def test_a_committed_row_comes_back_as_it_was_also_after_reopening(ledger: SqliteLedger, path: Path) -> None:
    row = Row(key_of("a", "x"), 2, 3, RowState.DEAD_PENDING, 5, 2**40, 1700000000.25, "grüße", b"\x00note")
    ledger.commit([row], {})
    assert ledger.look_up([row.key]) == {row.key: [row]}
    again = reopened(ledger, path)
    assert again.look_up([row.key]) == {row.key: [row]}
    again.close()


@pytest.mark.parametrize("state", RowState)
def test_every_state_comes_back(ledger: SqliteLedger, state: RowState) -> None:
    ledger.commit([row_of("a", state)], {})
    assert found(ledger, "a")[0].state is state


def test_a_key_without_rows_is_answered_with_none(ledger: SqliteLedger) -> None:
    assert ledger.look_up([key_of("nobody")]) == {key_of("nobody"): []}


def test_a_look_up_finds_reuses_of_the_id_and_no_neighbour(ledger: SqliteLedger) -> None:
    key = b"\x10" * 16 + b"content0"
    same_id = [b"\x10" * 16 + content for content in (b"\x00" * 8, b"content1", b"\xff" * 8)]
    neighbours = [b"\x10" * 15 + b"\x0f" + b"\xff" * 8, b"\x10" * 15 + b"\x11" + b"\x00" * 8]
    ledger.commit([Row(k, 1, 1, RowState.DONE, 0, 0, 1.0) for k in [*same_id, *neighbours]], {})
    assert [row.key for row in ledger.look_up([key])[key]] == same_id


def test_a_later_row_replaces_the_earlier_also_within_one_commit(ledger: SqliteLedger) -> None:
    ledger.commit([row_of("a", RowState.DISPATCHED), row_of("a", RowState.DONE)], {})
    ledger.commit([row_of("a", RowState.RETRY_PENDING)], {})
    assert [row.state for row in found(ledger, "a")] == [RowState.RETRY_PENDING]


def test_open_rows_are_all_rows_with_something_left_to_do_oldest_first(ledger: SqliteLedger) -> None:
    ledger.commit([row_of(state, state, at_s=-number) for number, state in enumerate(RowState)], {})
    assert ids(ledger.open_rows()) == list(reversed(OPEN))


def test_a_row_that_is_done_is_open_no_longer(ledger: SqliteLedger) -> None:
    ledger.commit([row_of("a", RowState.DISPATCHED)], {})
    ledger.commit([row_of("a", RowState.DONE)], {})
    assert ledger.open_rows() == []


def test_all_contents_that_an_id_came_with_are_found(ledger: SqliteLedger) -> None:
    ledger.commit([row_of("a", at_s=1, content="old"), row_of("a", at_s=2, content="new"), row_of("b")], {})
    assert [row.at_s for row in found(ledger, "a")] == [2, 1]


def test_counters_add_up_over_commits_and_openings(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([], {"done": 2, "dead": 1})
    ledger.commit([], {"done": 3})
    again = reopened(ledger, path)
    assert again.counters() == {"done": 5, "dead": 1}
    again.close()


def test_a_commit_that_fails_leaves_nothing_of_itself(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([row_of("before")], {"done": 1})
    with pytest.raises(LedgerError):
        ledger.commit([row_of("during")], {"done": 1, "broken": None})  # type: ignore[dict-item]
    again = reopened(ledger, path)
    assert (found(again, "during"), again.counters()) == ([], {"done": 1})
    again.close()


def left_by_a_crash(path: Path, folder: Path) -> Path:
    """What a consumer that died now would leave of this ledger, which it has open."""
    folder.mkdir()
    for file in (path, log_of(path)):
        shutil.copyfile(file, folder / file.name)
    return folder / path.name


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def test_i1_what_is_left_in_the_log_is_written_anew_before_anything_is_added_to_it(
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


# ---- eviction -----------------------------------------------------------------------------------------------------


def drain(ledger: SqliteLedger, older_than_s: float, keep_max: int) -> tuple[int, int]:
    aged = early = 0
    while any(batch := ledger.evict(older_than_s, keep_max)):
        assert sum(batch) <= sqlite.EVICT_BATCH
        aged, early = aged + batch[0], early + batch[1]
    return aged, early


def test_closed_rows_older_than_asked_are_forgotten(ledger: SqliteLedger) -> None:
    ledger.commit([row_of("old", at_s=9.9), row_of("edge", at_s=10.0), row_of("new", at_s=11.0)], {})
    assert drain(ledger, 10.0, 1000) == (1, 0)
    assert (found(ledger, "old"), len(found(ledger, "edge")), len(found(ledger, "new"))) == ([], 1, 1)


@pytest.mark.parametrize("state", OPEN)
def test_an_open_row_is_never_forgotten(ledger: SqliteLedger, state: RowState) -> None:
    ledger.commit([row_of("a", state, at_s=0.0)], {})
    assert drain(ledger, 1e12, 0) == (0, 0)
    assert len(found(ledger, "a")) == 1


@pytest.mark.parametrize("state", CLOSED)
def test_every_closed_state_can_be_forgotten(ledger: SqliteLedger, state: RowState) -> None:
    ledger.commit([row_of("a", state, at_s=0.0)], {})
    assert drain(ledger, 1.0, 1000) == (1, 0)


def test_the_oldest_beyond_keep_max_go_early_and_open_rows_stay(ledger: SqliteLedger) -> None:
    ledger.commit([row_of(f"r{n}", at_s=float(n)) for n in range(10)], {})
    ledger.commit([row_of("open", RowState.DISPATCHED, at_s=-1.0)], {})
    assert drain(ledger, 0.0, 4) == (0, 7)
    assert [f"r{n}" for n in range(10) if found(ledger, f"r{n}")] == ["r7", "r8", "r9"]
    assert ids(ledger.open_rows()) == ["open"]


def test_both_reasons_are_counted_apart(ledger: SqliteLedger) -> None:
    ledger.commit([row_of(f"r{n}", at_s=float(n)) for n in range(10)], {})
    assert drain(ledger, 3.0, 5) == (3, 2)


def test_a_message_has_a_row_for_each_time_it_was_settled_also_after_reopening(
    ledger: SqliteLedger, path: Path
) -> None:
    for _ in range(3):
        ledger.commit([row_of(f"r{n}", at_s=float(n)) for n in range(10)], {})
    again = reopened(ledger, path)
    assert again.size()[0] == 30
    assert drain(again, 0.0, 30) == (0, 0)
    assert drain(again, 0.0, 10) == (0, 20)
    assert all(found(again, f"r{n}") for n in range(10))
    assert drain(again, 0.0, 9) == (0, 1)
    assert [n for n in range(10) if not found(again, f"r{n}")] == [0]
    again.close()


def test_what_is_settled_after_everything_was_forgotten_is_known_after_reopening(
    ledger: SqliteLedger, path: Path
) -> None:
    """Records go on being numbered where they were, though none is left (I2)."""
    for number in range(5):
        ledger.commit([row_of(f"old{number}", at_s=0.0)], {})
    assert drain(ledger, 1.0, 1000) == (5, 0)
    second = reopened(ledger, path)
    second.commit([row_of("new")], {})
    third = reopened(second, path)
    assert ids(found(third, "new")) == ["new"]
    third.close()


# ---- boots --------------------------------------------------------------------------------------------------------


def as_if_rebooted(ledger: SqliteLedger, path: Path) -> SqliteLedger:
    ledger.close()
    change(path, "UPDATE meta SET value = 'another-boot' WHERE name = 'boot_id'")
    return SqliteLedger(path, "normal")


def test_a_new_ledger_was_not_rebooted(ledger: SqliteLedger) -> None:
    assert not ledger.rebooted


def test_a_ledger_of_this_boot_was_not_rebooted(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([row_of("a", RowState.DISPATCHED)], {})
    again = reopened(ledger, path)
    assert not again.rebooted
    again.close()


def test_a_ledger_of_another_boot_was_rebooted_once(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([row_of("a")], {})
    second = as_if_rebooted(ledger, path)
    assert second.rebooted
    second.commit([row_of("b")], {})
    assert second.rebooted  # for as long as it is open
    third = reopened(second, path)
    assert not third.rebooted
    third.close()


def test_a_reboot_is_not_forgotten_before_every_row_open_then_was_written_again(
    ledger: SqliteLedger, path: Path
) -> None:
    ledger.commit([row_of("a", RowState.DISPATCHED), row_of("b", RowState.RETRY_PENDING)], {})
    second = as_if_rebooted(ledger, path)
    second.commit([row_of("a", RowState.DONE), row_of("new", RowState.DISPATCHED)], {})
    third = reopened(second, path)
    assert third.rebooted  # "b" still is of the earlier boot
    third.commit([row_of("b", RowState.RETRY), row_of("new", RowState.DONE)], {})
    fourth = reopened(third, path)
    assert not fourth.rebooted
    fourth.close()


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


def test_somebody_elses_database_is_refused_and_left_alone(path: Path) -> None:
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
    """Also while somebody keeps the error, and with it what the opening had come to."""
    ledger.commit([row_of("a")], {})
    ledger.close()
    change(path, damage)
    before = descriptors()
    with pytest.raises(LedgerUnusable) as kept:
        SqliteLedger(path, "full")
    assert (descriptors(), type(kept.value)) == (before, LedgerUnusable)


def test_a_ledger_that_cannot_be_synced_is_not_kept_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(log: Path) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(sqlite, "Syncer", fails)
    before = descriptors()
    with pytest.raises(LedgerError, match="Too many open files") as kept:
        SqliteLedger(path, "full")
    assert (descriptors(), type(kept.value)) == (before, LedgerError)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path / "nowhere" / "ledger.db", lasting=False)


def test_a_second_user_is_refused_with_the_pid_of_the_first(ledger: SqliteLedger, path: Path) -> None:
    assert f"in use by another consumer (pid {os.getpid()})" in refusal(path, lasting=False)


def test_after_an_error_it_has_to_be_opened_again(ledger: SqliteLedger, path: Path) -> None:
    with pytest.raises(LedgerError):
        ledger.commit([], {"broken": None})  # type: ignore[dict-item]
    for attempt in (lambda: ledger.commit([], {}), ledger.counters, ledger.open_rows):
        with pytest.raises(LedgerError, match="opened again"):
            attempt()
    again = reopened(ledger, path)
    again.commit([row_of("a")], {})
    again.close()


def test_closing_twice_does_no_harm(path: Path) -> None:
    ledger = SqliteLedger(path, "full")
    ledger.close()
    ledger.close()


# ---- looking back ---------------------------------------------------------------------------------------------------


def test_looking_back_shows_closed_rows_in_bounded_pieces_the_last_written_first(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOOK_BACK_ROWS", 2)
    ledger.commit([row_of("too old", at_s=10.0)], {})
    for number in range(5):
        ledger.commit([row_of(f"m{number}", at_s=1000.0 + number), row_of(f"open{number}", RowState.DISPATCHED)], {})
    seen: list[str] = []
    place: int | None = None
    while True:
        rows, place = ledger.settled_before(place, 1000.0)
        seen += ids(rows)
        if place is None:
            break
        assert len(rows) <= 2
    assert seen == ["m4", "m3", "m2", "m1", "m0", "too old"]
