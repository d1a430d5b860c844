"""Facts about folding: whatever has been folded, evicted or opened again, a look-up tells what a plain table would."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.errors import LedgerUnusable
from supervisor.ledger import sqlite_index
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.recent import Recent
from supervisor.ledger.sqlite import SqliteLedger
from tests.support.ledgers import key_of, named, row_of

IDS = [f"m{number}" for number in range(40)]


@pytest.fixture(autouse=True)
def early_folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that begin after a few rows and take several commits."""
    monkeypatch.setattr(sqlite_index, "FOLD_AFTER_ROWS", 12)
    monkeypatch.setattr(sqlite_index, "FOLD_SLICE_ROWS", 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(path, "normal")
    yield ledger
    ledger.close()


def folded(ledger: SqliteLedger) -> int:
    """How many keys are in the index."""
    (count,) = ledger._database.execute("SELECT count(*) FROM keys").fetchone()
    assert isinstance(count, int)
    return count


def records(ledger: SqliteLedger, table: str) -> int:
    (count,) = ledger._database.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert isinstance(count, int)
    return count


def commit_each(ledger: SqliteLedger, *rows: Row) -> None:
    for row in rows:
        ledger.commit([row], {})


class Model:
    """The rows as a dictionary has them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = SqliteLedger(path, "normal")
        self.rows: dict[bytes, Row] = {}
        self.now_s = 0.0

    def commit(self, picked: list[tuple[str, RowState]]) -> None:
        self.now_s += 1
        rows = [row_of(id, state, at_s=self.now_s) for id, state in picked]
        self.ledger.commit(rows, {})
        self.rows |= {row.key: row for row in rows}

    def evict(self, age_s: float, keep_max: int) -> None:
        """Only closed rows, the oldest first; at least as many as must go, and the counts are what is gone."""
        gone = 0
        while batch := sum(self.ledger.evict(self.now_s - age_s, keep_max)):
            gone += batch
        found = self.ledger.look_up(sorted(self.rows))
        lost = [row for key, row in self.rows.items() if not found[key]]
        assert len(lost) == gone
        assert not any(row.state.open for row in lost)
        for row in lost:
            del self.rows[row.key]
        self.ledger.evict(self.now_s - age_s, keep_max)  # what was not folded yet could not be forgotten
        found = self.ledger.look_up(sorted(self.rows))
        self.rows = {key: row for key, row in self.rows.items() if found[key]}
        assert not any(row.at_s < self.now_s - age_s and not row.state.open for row in self.rows.values())

    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = SqliteLedger(self.path, "normal")

    def check(self) -> None:
        keys = [key_of(id) for id in IDS]
        assert self.ledger.look_up(keys) == {key: [self.rows[key]] if key in self.rows else [] for key in keys}
        assert {row.key for row in self.ledger.open_rows()} == {k for k, row in self.rows.items() if row.state.open}
        assert self.ledger.size()[0] >= len(self.rows)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("commit"),
            st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(list(RowState))), min_size=1, max_size=12),
        ),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("evict"), st.integers(0, 30), st.integers(100, 200)),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(steps=STEPS, seed=st.integers(0, 10**6))
def test_a_ledger_answers_as_a_dictionary_would_through_folding_eviction_and_openings(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]], seed: int
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


def test_a_round_is_spread_over_commits_and_ends_with_every_key_in_the_index(ledger: SqliteLedger) -> None:
    ledger.commit([row_of(id) for id in IDS[:20]], {})
    assert 0 < folded(ledger) <= 40  # twice what was settled: one big commit pays for itself
    commit_each(ledger, *[row_of(id) for id in IDS[20:33]])
    before = folded(ledger)
    commit_each(ledger, *[row_of(id) for id in IDS[33:36]])
    assert 0 < folded(ledger) - before <= 9


def test_after_a_round_only_open_rows_are_kept_beside_the_index(ledger: SqliteLedger) -> None:
    ledger.commit([row_of("open", RowState.DISPATCHED)], {})
    for number in range(200):
        ledger.commit([row_of(f"r{number}", RowState.DISPATCHED)], {})
        ledger.commit([row_of(f"r{number}")], {})
    assert records(ledger, "begun") < 40  # those of the round under way and of the carried row
    assert [row.id for row in ledger.open_rows()] == ["open"]
    assert len(ledger._index.recent.of_id(key_of("r0"))) == 0


def test_a_row_open_through_many_rounds_survives_an_opening(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([row_of("open", RowState.RETRY_PENDING, at_s=-5.0)], {})
    commit_each(ledger, *[row_of(f"r{number}") for number in range(100)])
    ledger.close()
    again = SqliteLedger(path, "normal")
    assert [(row.id, row.at_s) for row in again.open_rows()] == [("open", -5.0)]
    again.close()


def test_a_reboot_is_not_forgotten_because_an_open_row_was_carried_into_a_new_record(
    ledger: SqliteLedger, path: Path
) -> None:
    """Carrying proves nothing about its worker (I4)."""
    ledger.commit([row_of("open", RowState.DISPATCHED)], {})
    ledger._database.execute("UPDATE meta SET value = 'another-boot' WHERE name = 'boot_id'")
    ledger.close()
    second = SqliteLedger(path, "normal")
    commit_each(second, *[row_of(f"r{number}") for number in range(100)])
    second.close()
    third = SqliteLedger(path, "normal")
    assert third.rebooted
    third.close()


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
    assert ledger.evict(50.0, 10**6) == (60, 0)
    assert [row.at_s for row in named(ledger, "a")] == [100.0]


def test_a_key_without_its_row_is_told_as_damage(ledger: SqliteLedger) -> None:
    commit_each(ledger, *[row_of(f"r{number}") for number in range(60)])
    ledger._database.execute("DELETE FROM settled WHERE seq = 1")
    with pytest.raises(LedgerUnusable, match="damaged"):
        ledger.look_up([key_of("r0")])


def test_a_record_that_cannot_be_unpacked_is_told_as_damage(ledger: SqliteLedger, path: Path) -> None:
    ledger.commit([row_of("a")], {})
    ledger._database.execute("UPDATE settled SET rows = x'C1'")
    ledger.close()
    with pytest.raises(LedgerUnusable, match=r"damaged.*move it"):
        SqliteLedger(path, "normal")


def test_what_is_recent_counts_each_closed_message_once() -> None:
    recent = Recent()
    rng = random.Random(3)
    newest: dict[str, RowState] = {}
    for seq in range(300):
        id, state = rng.choice(IDS), rng.choice(list(RowState))
        recent.put(seq, [row_of(id, state)])
        newest[id] = state
        assert recent.settled == sum(not state.open for state in newest.values())
        assert len(recent) == len(newest)
    recent.forget_settled(150)
    assert recent.settled == len(recent.settled_keys())
    assert len(recent) == recent.settled + len(recent.open_rows())
    assert len(recent.open_rows()) == sum(state.open for state in newest.values())
