"""Facts about folding: whatever has been folded, evicted or opened again, a look-up tells what a plain table would."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.errors import LedgerUnusable
from supervisor.ledger import entries, sqlite_index, sqlite_runs
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.entries import fingerprints
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.messages.identity import ID_BYTES
from tests.support.ledgers import key_of, named, row_of


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few rows, so that all levels are reached, by merges that take several commits."""
    monkeypatch.setattr(sqlite_index, "FOLD_AFTER_ROWS", 6)
    monkeypatch.setattr(entries, "_FIRST_CHUNK_BITS", 1)
    monkeypatch.setattr(entries, "MERGE_BITS", 1)
    monkeypatch.setattr(sqlite_runs, "ROWS_A_STEP", 1)
    monkeypatch.setattr(sqlite_runs, "REMOVED_A_STEP", 3)


def runs(ledger: SqliteLedger) -> list[tuple[int, int, int]]:
    """Level, first and last record of those in force, in the order of time."""
    found = "SELECT level, first_seq, last_seq FROM runs WHERE level IS NOT NULL ORDER BY first_seq"
    return list(ledger._database.execute(found))


def parts(ledger: SqliteLedger) -> set[int]:
    """The runs that anything is left of."""
    both = "SELECT part >> 20 FROM chunks UNION SELECT part >> 20 FROM filters UNION SELECT run FROM runs"
    return {number for (number,) in ledger._database.execute(both)}


def records(ledger: SqliteLedger, table: str) -> int:
    (count,) = ledger._database.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert isinstance(count, int)
    return count


def commit_each(ledger: SqliteLedger, *rows: Row) -> None:
    for row in rows:
        ledger.commit([row], {})


class Model:
    """The rows as lists and a dictionary have them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = SqliteLedger(path, "normal")
        self.newest: dict[bytes, Row] = {}
        self.closed: list[Row] = []  # in the order of time, those replaced since among them
        self.now_s = 0.0

    def commit(self, picked: list[tuple[int, str, RowState]]) -> None:
        self.now_s += 1
        rows = [
            Row(colliding_key(number, content), 1, 1, state, 3, 17, self.now_s, f"m{number}")
            for number, content, state in picked
        ]
        self.ledger.commit(rows, {})
        written = {row.key: row for row in rows}
        self.newest |= written
        self.closed += [row for row in written.values() if not row.state.open]

    def evict(self, age_s: float, keep_max: int) -> None:
        """Only closed rows, the oldest first, exactly as many as must go; a message goes with its newest row."""
        gone = 0
        while batch := sum(self.ledger.evict(self.now_s - age_s, keep_max)):
            gone += batch
        while self.closed and (self.closed[0].at_s < self.now_s - age_s or self.size > keep_max):
            row = self.closed.pop(0)
            if self.newest[row.key] is row:
                del self.newest[row.key]
            gone -= 1
        assert gone == 0

    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = SqliteLedger(self.path, "normal")

    @property
    def size(self) -> int:
        return len(self.closed) + sum(row.state.open for row in self.newest.values())

    def check(self) -> None:
        keys = [colliding_key(number, content) for number in NUMBERS for content in CONTENTS]
        of_id: dict[bytes, list[Row]] = {key[:ID_BYTES]: [] for key in keys}
        for key in sorted(self.newest):
            of_id[key[:ID_BYTES]].append(self.newest[key])
        assert self.ledger.look_up(keys) == {key: of_id[key[:ID_BYTES]] for key in keys}
        opened = {key: row for key, row in self.newest.items() if row.state.open}
        assert {row.key: row for row in self.ledger.open_rows()} == opened
        assert self.ledger.size()[0] == self.size


NUMBERS = range(40)
CONTENTS = ("", "other")


def colliding_key(number: int, content: str) -> bytes:
    """Two ids each have the same fingerprint."""
    key = key_of(f"m{number}", content)
    return key_of(f"pair {number // 2}")[:8] + key[8:]


ROWS = st.tuples(st.sampled_from(NUMBERS), st.sampled_from(CONTENTS), st.sampled_from(list(RowState)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.lists(ROWS, min_size=1, max_size=12)),
        st.tuples(st.just("commit"), st.lists(ROWS, min_size=1, max_size=12)),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("evict"), st.integers(0, 60), st.integers(20, 300)),
    ),
    max_size=60,
)


@settings(max_examples=100)
@given(steps=STEPS)
def test_a_ledger_answers_as_a_dictionary_would_through_folding_merging_eviction_and_openings(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]]
) -> None:
    model = Model(tmp_path_factory.mktemp("ledger") / "ledger.db")
    try:
        for name, *arguments in steps:
            getattr(model, str(name))(*arguments)
            model.check()
        model.reopen()
        model.check()
    finally:
        model.ledger.close()


def test_runs_are_merged_up_to_the_highest_level_and_cover_all_records_without_a_gap(ledger: SqliteLedger) -> None:
    for number in range(400):
        ledger.commit([row_of(f"r{number}", RowState.DISPATCHED)], {})
        ledger.commit([row_of(f"r{number}")], {})
    in_force = runs(ledger)
    assert sqlite_runs.TOP_LEVEL in {level for level, _, _ in in_force}
    assert [level for level, _, _ in in_force] == sorted((level for level, _, _ in in_force), reverse=True)
    assert len([level for level, _, _ in in_force if level < sqlite_runs.TOP_LEVEL]) <= 2 * sqlite_runs.TOP_LEVEL
    ends = [(last, following) for (_, _, last), (_, following, _) in itertools.pairwise(in_force)]
    assert all(following == last + 1 for last, following in ends)
    assert all(ledger.look_up([key_of(f"r{number}") for number in range(400)]).values())


def test_a_large_merge_does_not_keep_small_runs_waiting(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is asked at every look-up. Steps and rows in the proportions that they have in earnest."""
    monkeypatch.setattr(entries, "MERGE_BITS", 3)
    monkeypatch.setattr(sqlite_runs, "ROWS_A_STEP", 6)
    most: Counter[int] = Counter()
    for start in range(0, 2 * 6 * 8**3, 6):
        ledger.commit([row_of(f"r{number}") for number in range(start, start + 6)], {})
        most |= Counter(level for level, _, _ in runs(ledger))
    assert most[sqlite_runs.TOP_LEVEL] == 1
    assert max(most.values()) <= 8 + 4


def test_runs_that_were_merged_or_forgotten_are_removed(ledger: SqliteLedger) -> None:
    commit_each(ledger, *[row_of(f"r{number}", at_s=1.0) for number in range(400)])
    assert len(parts(ledger)) <= len(runs(ledger)) + 4  # the one that is made, and what is being removed
    while any(ledger.evict(2.0, 10**6)):
        pass
    assert runs(ledger) == []
    commit_each(ledger, *[row_of(f"s{number}", RowState.DISPATCHED) for number in range(20)])
    for _ in range(200):
        ledger.commit([row_of("again", at_s=3.0)], {})
        ledger.evict(4.0, 10**6)
    assert records(ledger, "chunks") < 10


def merging(ledger: SqliteLedger, numbers: Iterator[int]) -> int:
    """Commit until a merge is half done; its run."""
    runs = ledger._index._runs
    while not any(len(merge.filters) == 3 for merge in runs._merges.values()):
        ledger.commit([row_of(f"r{next(numbers)}")], {})
    return next(merge.number for merge in runs._merges.values() if len(merge.filters) == 3)


def test_runs_forgotten_while_they_are_merged_are_not_missed(ledger: SqliteLedger, path: Path) -> None:
    begun = merging(ledger, numbers := itertools.count())
    while any(ledger.evict(2000.0, 10**6)):
        pass
    assert runs(ledger) == []
    later = [f"r{next(numbers)}" for _ in range(60)]
    commit_each(ledger, *[row_of(id, at_s=3000.0) for id in later])
    while any(ledger.evict(2000.0, 10**6)):
        pass
    assert all(ledger.look_up([key_of(id) for id in later]).values())
    commit_each(ledger, *[row_of(f"r{next(numbers)}", at_s=3000.0) for _ in range(20)])
    ledger.evict(3000.0, 80)
    commit_each(ledger, *[row_of(f"r{next(numbers)}", at_s=3000.0) for _ in range(20)])
    assert begun not in parts(ledger)


def test_what_a_crash_leaves_of_a_merge_is_removed_and_the_merge_done_again(ledger: SqliteLedger, path: Path) -> None:
    begun = merging(ledger, numbers := itertools.count())
    ledger.close()
    again = SqliteLedger(path, "normal")
    assert begun in parts(again)
    commit_each(again, *[row_of(f"r{next(numbers)}") for _ in range(60)])
    assert begun not in parts(again)
    assert all(again.look_up([key_of(f"r{number}") for number in range(next(numbers))]).values())
    again.close()


def test_after_folding_only_open_rows_are_kept_beside_the_index(ledger: SqliteLedger) -> None:
    ledger.commit([row_of("open", RowState.DISPATCHED)], {})
    for number in range(200):
        ledger.commit([row_of(f"r{number}", RowState.DISPATCHED)], {})
        ledger.commit([row_of(f"r{number}")], {})
    assert records(ledger, "begun") < 20
    assert [row.id for row in ledger.open_rows()] == ["open"]
    assert ledger._index.recent.settled < 6
    assert ledger._index.recent.find(fingerprints([key_of("r0")])) == {}


def test_a_row_open_through_many_rounds_survives_an_opening(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([row_of("open", RowState.RETRY_PENDING, at_s=-5.0)], {})
    commit_each(ledger, *[row_of(f"r{number}") for number in range(100)])
    ledger.close()
    again = SqliteLedger(path, "normal")
    assert [(row.id, row.at_s) for row in again.open_rows()] == [("open", -5.0)]
    again.close()


def test_i4_an_open_row_that_is_carried_into_a_new_record_keeps_its_epoch(ledger: SqliteLedger, path: Path) -> None:
    """Carrying proves nothing about its worker."""
    ledger.commit([msgspec.structs.replace(row_of("open", RowState.DISPATCHED), epoch=-1)], {})
    commit_each(ledger, *[row_of(f"r{number}") for number in range(100)])
    ledger.close()
    again = SqliteLedger(path, "normal")
    assert [(row.id, row.epoch) for row in again.open_rows()] == [("open", -1)]
    again.close()


def test_nothing_is_skipped_wherever_in_a_round_it_is_opened_again(path: Path) -> None:
    keys = [key_of(f"r{number}") for number in range(60)]
    for number, key in enumerate(keys):
        ledger = SqliteLedger(path, "normal")
        assert all(ledger.look_up(keys[:number]).values())
        ledger.commit([row_of(f"r{number}")], {})
        assert ledger.look_up([key])[key]
        ledger.close()


def test_a_message_that_came_again_after_folding_has_its_newest_row(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([row_of("a", RowState.RETURNED)], {})
    commit_each(ledger, *[row_of(f"r{number}") for number in range(60)])
    ledger.commit([row_of("a", RowState.DISPATCHED)], {})
    assert [row.state for row in named(ledger, "a")] == [RowState.DISPATCHED]
    ledger.close()
    again = SqliteLedger(path, "normal")
    assert [row.state for row in named(again, "a")] == [RowState.DISPATCHED]
    again.commit([row_of("a", RowState.DONE)], {})
    commit_each(again, *[row_of(f"s{number}") for number in range(60)])
    assert [row.state for row in named(again, "a")] == [RowState.DONE]
    again.close()


def test_replaced_rows_are_forgotten_without_their_messages(ledger: SqliteLedger) -> None:
    """An old record of a message that was settled again since says nothing any more."""
    ledger.commit([row_of("a", at_s=1.0)], {})
    commit_each(ledger, *[row_of(f"r{number}", at_s=2.0) for number in range(60)])
    ledger.commit([row_of("a", at_s=100.0)], {})
    commit_each(ledger, *[row_of(f"s{number}", at_s=100.0) for number in range(60)])
    assert ledger.evict(50.0, 10**6) == (61, 0)
    assert [row.at_s for row in named(ledger, "a")] == [100.0]


def test_an_entry_without_its_record_is_told_as_damage(ledger: SqliteLedger) -> None:
    commit_each(ledger, *[row_of(f"r{number}") for number in range(60)])
    ledger._database.execute("DELETE FROM settled WHERE seq = 2")
    with pytest.raises(LedgerUnusable, match="damaged"):
        ledger.look_up([key_of("r1")])


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM filters WHERE part >> 20 = (SELECT max(run) FROM runs WHERE level IS NOT NULL)",
        "UPDATE chunks SET entries = x'C1'",
    ],
)
def test_a_damaged_part_of_the_index_is_told_as_damage(ledger: SqliteLedger, path: Path, damage: str) -> None:
    commit_each(ledger, *[row_of(f"r{number}") for number in range(60)])
    ledger._database.execute(damage)
    ledger.close()
    with pytest.raises(LedgerUnusable, match=r"damaged.*move it"):
        SqliteLedger(path, "normal").look_up([key_of(f"r{number}") for number in range(60)])


def test_a_record_that_cannot_be_unpacked_is_told_as_damage(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([row_of("a")], {})
    ledger._database.execute("UPDATE settled SET rows = x'C1'")
    ledger.close()
    with pytest.raises(LedgerUnusable, match=r"damaged.*move it"):
        SqliteLedger(path, "normal")
