"""What every ledger must do, whichever it is (supervisor/ledger/base.py): rows, commits, eviction, openings, lock."""

from __future__ import annotations

import os
import random
import select
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from supervisor.config.schema import FleetConfig, LedgerConfig
from supervisor.errors import LedgerError
from supervisor.ledger.base import GRANTED, Ledger, Row, RowState
from tests.support.children import snippet
from tests.support.descriptors import descriptors
from tests.support.fleet import emptied_store, made_store, store_url
from tests.support.ledgers import Store, boot, found, key_of, row_of
from tests.support.postgresql import PostgreSQL
from tests.support.waiting import eventually

OPEN = [state for state in RowState if state.open]
CLOSED = [state for state in RowState if not state.open]

WRITER = """
import sys
from supervisor.ledger.base import RowState
from tests.support.fleet import emptied_store, made_store, store_url
from tests.support.ledgers import Store, row_of

number = int(sys.argv[1])
ledger = Store.of_arguments(*sys.argv[2:]).open()
print("open", flush=True)
while True:
    ledger.commit([row_of(f"{number}-{part}", RowState.DISPATCHED) for part in "abc"], {"commits": 1})
    print(number, flush=True)
    number += 1
"""


@pytest.fixture(params=["sqlite-full", "sqlite-normal", "fleet-full", "fleet-normal"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    kind, _, sync = request.param.partition("-")
    return Store(LedgerConfig(sync=sync), tmp_path, in_fleet(request) if kind == "fleet" else None)


def in_fleet(request: pytest.FixtureRequest) -> FleetConfig:
    """A fleet whose store, on a real PostgreSQL, is empty."""
    server: PostgreSQL = request.getfixturevalue("postgresql")
    database: str = request.getfixturevalue("fleet_database")
    emptied_store(server, database)
    return FleetConfig(store_url(server.port, database), "tests")


@pytest.fixture(scope="module")
def fleet_database(postgresql: PostgreSQL) -> str:
    return made_store(postgresql)


@pytest.fixture
def ledger(store: Store) -> Iterator[Ledger]:
    with store.opened() as ledger:
        yield ledger


def ids(rows: list[Row]) -> list[str]:
    return [row.id for row in rows]


# ---- rows ---------------------------------------------------------------------------------------------------------


def test_a_committed_row_comes_back_as_it_was_also_after_reopening(ledger: Ledger, store: Store) -> None:
    row = Row(key_of("a", "x"), 2, 3, RowState.DEAD_PENDING, 5, 2**40, 1700000000.25, "grüße", b"\x00note", 7)
    ledger.commit([row], {})
    assert ledger.look_up([row.key]) == {row.key: [row]}
    ledger.close()
    with store.opened() as again:
        assert again.look_up([row.key]) == {row.key: [row]}


@pytest.mark.parametrize("state", RowState)
def test_every_state_comes_back(ledger: Ledger, state: RowState) -> None:
    ledger.commit([row_of("a", state)], {})
    assert found(ledger, "a")[0].state is state


def test_a_key_without_rows_is_answered_with_none(ledger: Ledger) -> None:
    assert ledger.look_up([key_of("unknown")]) == {key_of("unknown"): []}


def test_a_look_up_finds_reuses_of_the_id_and_no_neighbour(ledger: Ledger) -> None:
    key = b"\x10" * 16 + b"content0"
    same_id = [b"\x10" * 16 + content for content in (b"\x00" * 8, b"content1", b"\xff" * 8)]
    neighbours = [b"\x10" * 15 + b"\x0f" + b"\xff" * 8, b"\x10" * 15 + b"\x11" + b"\x00" * 8]
    ledger.commit([Row(k, 1, 1, RowState.DONE, 0, 0, 1.0) for k in [*same_id, *neighbours]], {})
    assert [row.key for row in ledger.look_up([key])[key]] == same_id


def test_a_later_row_replaces_the_earlier_also_within_one_commit(ledger: Ledger) -> None:
    ledger.commit([row_of("a", RowState.DISPATCHED), row_of("a", RowState.RETURNED)], {})
    ledger.commit([row_of("a", RowState.RETRY_PENDING)], {})
    assert [row.state for row in found(ledger, "a")] == [RowState.RETRY_PENDING]


def test_all_contents_that_an_id_came_with_are_found(ledger: Ledger) -> None:
    ledger.commit([row_of("a", at_s=1, content="old"), row_of("a", at_s=2, content="new"), row_of("b")], {})
    assert [row.at_s for row in found(ledger, "a")] == [2, 1]


def test_open_rows_are_all_rows_with_something_left_to_do_oldest_first(ledger: Ledger, store: Store) -> None:
    ledger.commit([row_of(state, state, at_s=-number) for number, state in enumerate(RowState)], {})
    assert ids(list(ledger.open_rows())) == list(reversed(OPEN))
    ledger.close()
    with store.opened() as again:
        assert ids(list(again.open_rows())) == list(reversed(OPEN))


def test_a_row_that_is_done_is_open_no_longer(ledger: Ledger) -> None:
    ledger.commit([row_of("a", RowState.DISPATCHED)], {})
    ledger.commit([row_of("a", RowState.DONE)], {})
    assert list(ledger.open_rows()) == []


# ---- commits ------------------------------------------------------------------------------------------------------


def test_look_ups_see_an_outcome_at_once_and_the_descriptor_tells_when_there_are_results(ledger: Ledger) -> None:
    poll = select.poll()
    descriptor = ledger.fileno()
    if descriptor is not None:
        poll.register(descriptor, select.POLLIN)
    for id in "abc":
        ledger.commit([row_of(id, RowState.DISPATCHED)], {})
        ledger.submit({key_of(id): row_of(id)}, {})
        assert [row.state for row in found(ledger, id)] == [RowState.DONE]
        while (result := ledger.results()) is None:
            assert poll.poll(30_000)
        assert result == ledger.results() == GRANTED, "the same until the next request"
        assert not poll.poll(0), "the loop would turn for nothing"


def test_counters_add_up_over_commits_and_openings(ledger: Ledger, store: Store) -> None:
    ledger.commit([], {"done": 2, "dead": 1})
    ledger.commit([row_of("a")], {"done": 3})
    assert ledger.counters() == {"done": 5, "dead": 1}
    ledger.close()
    with store.opened() as again:
        assert again.counters() == {"done": 5, "dead": 1}


def test_a_commit_that_fails_leaves_nothing_of_itself(ledger: Ledger, store: Store) -> None:
    ledger.commit([row_of("before")], {"done": 1})
    with pytest.raises(LedgerError):
        ledger.commit([row_of("during")], {"done": 1, "broken": None})  # type: ignore[dict-item]
    ledger.close()
    with store.opened() as again:
        assert (found(again, "during"), again.counters()) == ([], {"done": 1})


def test_after_an_error_it_has_to_be_opened_again(ledger: Ledger, store: Store) -> None:
    with pytest.raises(LedgerError):
        ledger.commit([], {"broken": None})  # type: ignore[dict-item]
    for attempt in (lambda: ledger.commit([], {}), ledger.counters, ledger.open_rows):
        with pytest.raises(LedgerError, match="opened again"):
            attempt()
    ledger.close()
    with store.opened() as again:
        again.commit([row_of("a")], {})


def test_i1_kill_9_of_the_writer_keeps_every_whole_commit_and_no_half_one(store: Store) -> None:
    number, commits = 0, 0
    for seed in range(4):
        with snippet(WRITER, str(number), *store.arguments) as writer:
            assert writer.line() == "open"
            told = [int(writer.line()) for _ in range(random.Random(seed).randrange(1, 60))]
            told += [int(line) for line in writer.kill()]
        with store.opened() as ledger:
            parts = {n: [part for part in "abc" if found(ledger, f"{n}-{part}")] for n in range(number, told[-1] + 3)}
            counted = ledger.counters()["commits"]
        assert all(parts[n] == ["a", "b", "c"] for n in told)
        assert parts[told[-1] + 1] in ([], ["a", "b", "c"])  # it may have died between commit and telling
        assert parts[told[-1] + 2] == []
        commits += len(told) + bool(parts[told[-1] + 1])
        assert counted == commits
        number = told[-1] + 10


# ---- eviction -----------------------------------------------------------------------------------------------------


def drain(ledger: Ledger, older_than_s: float, keep_max: int) -> tuple[int, int]:
    """Evict until nothing is left to be evicted."""
    aged = early = 0
    while any(batch := ledger.evict(older_than_s, keep_max)):
        aged, early = aged + batch[0], early + batch[1]
    return aged, early


def test_closed_rows_older_than_asked_are_forgotten(ledger: Ledger) -> None:
    ledger.commit([row_of("old", at_s=9.9), row_of("edge", at_s=10.0), row_of("new", at_s=11.0)], {})
    assert drain(ledger, 10.0, 1000) == (1, 0)
    assert (found(ledger, "old"), len(found(ledger, "edge")), len(found(ledger, "new"))) == ([], 1, 1)


@pytest.mark.parametrize("state", OPEN)
def test_an_open_row_is_never_forgotten(ledger: Ledger, state: RowState) -> None:
    ledger.commit([row_of("a", state, at_s=0.0)], {})
    assert drain(ledger, 1e12, 0) == (0, 0)
    assert len(found(ledger, "a")) == 1


@pytest.mark.parametrize("state", CLOSED)
def test_every_closed_state_can_be_forgotten(ledger: Ledger, state: RowState) -> None:
    ledger.commit([row_of("a", state, at_s=0.0)], {})
    assert drain(ledger, 1.0, 1000) == (1, 0)
    assert found(ledger, "a") == []


def test_the_oldest_beyond_keep_max_go_early_and_open_rows_stay(ledger: Ledger) -> None:
    ledger.commit([row_of(f"r{n}", at_s=float(n)) for n in range(10)], {})
    ledger.commit([row_of("open", RowState.DISPATCHED, at_s=-1.0)], {})
    assert drain(ledger, 0.0, 4) == (0, 7)
    assert [f"r{n}" for n in range(10) if found(ledger, f"r{n}")] == ["r7", "r8", "r9"]
    assert ids(list(ledger.open_rows())) == ["open"]


def test_both_reasons_are_counted_apart(ledger: Ledger) -> None:
    ledger.commit([row_of(f"r{n}", at_s=float(n)) for n in range(10)], {})
    assert drain(ledger, 3.0, 5) == (3, 2)


def test_many_rows_are_evicted_in_batches_and_the_newest_stay(ledger: Ledger) -> None:
    for start in range(0, 20_000, 2_000):
        ledger.commit([row_of(str(n), at_s=float(n)) for n in range(start, start + 2_000)], {})
    assert 0 < sum(ledger.evict(5_000.0, 10_000)) < 10_000, "one batch holds up a turn of the loop"
    drain(ledger, 5_000.0, 10_000)
    assert [len(found(ledger, str(n))) for n in (0, 4_999, 9_999, 10_000, 19_999)] == [0, 0, 0, 1, 1]


def test_a_message_has_a_row_for_each_time_it_was_settled_also_after_reopening(ledger: Ledger, store: Store) -> None:
    for _ in range(3):
        ledger.commit([row_of(f"r{n}", at_s=float(n)) for n in range(10)], {})
    ledger.close()
    with store.opened() as again:
        assert again.size()[0] == 30
        assert drain(again, 0.0, 30) == (0, 0)
        assert drain(again, 0.0, 10) == (0, 20)
        assert all(found(again, f"r{n}") for n in range(10))
        assert drain(again, 0.0, 9) == (0, 1)
        assert [n for n in range(10) if not found(again, f"r{n}")] == [0]


def test_i2_what_is_settled_after_everything_was_forgotten_is_known_after_reopening(
    ledger: Ledger, store: Store
) -> None:
    for number in range(5):
        ledger.commit([row_of(f"old{number}", at_s=0.0)], {})
    assert drain(ledger, 1.0, 1000) == (5, 0)
    ledger.close()
    with store.opened() as second:
        second.commit([row_of("new")], {})
    with store.opened() as third:
        assert ids(found(third, "new")) == ["new"]


def test_looking_back_shows_closed_rows_in_bounded_pieces_the_last_written_first(ledger: Ledger) -> None:
    ledger.commit([row_of("too old", at_s=10.0)], {})
    for number in range(0, 3000, 100):
        closed = [row_of(f"m{n}", at_s=1000.0 + n) for n in range(number, number + 100)]
        ledger.commit([*closed, row_of(f"open{number}", RowState.DISPATCHED)], {})
    pieces: list[list[Row]] = []
    place: int | None = None
    while place is not None or not pieces:
        rows, place = ledger.settled_before(place, 1000.0)
        pieces.append(rows)
    seen = [row.at_s for rows in pieces for row in rows if row.id != "too old"]
    assert seen == [1000.0 + n for n in reversed(range(3000))]
    assert max(len(rows) for rows in pieces) < 1000, "one piece holds up a turn of the loop"


# ---- openings, boots ----------------------------------------------------------------------------------------------


def test_a_mark_counts_openings_and_does_not_go_back(ledger: Ledger, store: Store) -> None:
    first = ledger.mark
    assert (ledger.found.session, first.session) == (0, 1)
    ledger.commit([row_of("a")], {})
    assert ledger.mark.record > first.record
    ledger.close()
    with store.opened() as again:
        assert (again.found.ledger, again.mark.session) == (first.ledger, 2)
        assert again.found.record >= first.record + 1


def test_time_goes_on_over_openings(ledger: Ledger, store: Store) -> None:
    before_s = ledger.now_s
    ledger.commit([row_of("a", RowState.DISPATCHED, at_s=before_s + 5000.0)], {})
    ledger.close()
    with store.opened() as again:
        assert again.now_s >= before_s + 5000.0, "no later row may be older"


def test_doubt_outlives_the_process_and_ends(ledger: Ledger, store: Store) -> None:
    assert not ledger.doubtful
    ledger.doubt(ledger.now_s + 3600.0)
    ledger.close()
    with store.opened() as again:
        assert again.doubtful
        again.doubt(again.now_s)
        assert not again.doubtful


def test_an_epoch_lasts_over_openings_until_the_machine_boots(
    ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = [ledger.epoch]
    ledger.close()
    for name in ("", "second boot", "second boot", "third boot"):
        if name:
            boot(monkeypatch, name)
        with store.opened() as again:
            epochs.append(again.epoch)
    assert [epoch - epochs[0] for epoch in epochs] == [0, 0, 1, 1, 2]


def test_i4_an_open_row_keeps_its_owner_over_boots_until_it_is_written_again(
    ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ledger.epoch
    rows = [msgspec.structs.replace(row_of(id, RowState.DISPATCHED), epoch=first) for id in "ab"]
    ledger.commit(rows, {})
    ledger.close()
    boot(monkeypatch, "another boot")
    with store.opened() as second:
        assert list(second.open_rows()) == rows
        second.commit([msgspec.structs.replace(rows[0], epoch=second.epoch)], {})
    with store.opened() as third:
        assert {row.id: row.epoch for row in third.open_rows()} == {"a": third.epoch, "b": first}


# ---- one user -----------------------------------------------------------------------------------------------------


def test_a_second_user_is_refused_with_the_pid_of_the_first(ledger: Ledger, store: Store) -> None:
    with pytest.raises(LedgerError, match=rf"in use by another consumer \(pid {os.getpid()}\)"):
        store.open()


def test_a_ledger_in_use_by_another_process_is_refused_until_that_is_dead(store: Store) -> None:
    with snippet(WRITER, "0", *store.arguments) as writer:
        assert writer.line() == "open"
        with pytest.raises(LedgerError, match=rf"in use by another consumer \(pid {writer.pid}\)"):
            store.open()
        writer.kill()
    with store.opened():
        pass


def test_closing_gives_everything_back_and_does_no_harm_twice(store: Store) -> None:
    before = descriptors()
    ledger = store.open()
    ledger.close()
    ledger.close()
    assert descriptors() == before


# ---- lost files ---------------------------------------------------------------------------------------------------


def test_the_files_that_it_lives_by_are_there_while_it_is_open(ledger: Ledger) -> None:
    eventually(lambda: all(file.exists() for file in ledger.files), "its files are there")


def test_a_ledger_whose_files_were_deleted_is_written_again_with_all_it_knew(ledger: Ledger, store: Store) -> None:
    ledger.commit([row_of("a")], {"done": 1})
    for file in ledger.files:
        file.unlink()
    ledger.detach()
    ledger.write_again()
    with store.opened() as again:
        assert (len(found(again, "a")), again.counters()) == (1, {"done": 1})
        assert again.found == ledger.mark


def test_a_ledger_in_whose_place_is_another_file_is_not_written_over_it(ledger: Ledger) -> None:
    file = ledger.files[0]
    file.unlink()
    file.write_bytes(b"of another program")
    ledger.detach()
    ledger.write_again()
    assert file.read_bytes() == b"of another program"
