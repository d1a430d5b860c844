"""What the rows of a turn are for the store of a fleet, and what its answers mean for the host."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.fleet.calls import Entry, Refusal
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.fleet_rows import corrected, holding, planned, reconciled, rival
from tests.support.ledgers import key_of, row_of

OPEN = [state for state in RowState if state.open]
DECIDED = [state for state in RowState if state not in (RowState.DISPATCHED, RowState.RETURNED)]
KEY = key_of("a")


def plan(row: Row, held: tuple[int, int] | None = None, here: Row | None = None, tracked: bool = True) -> list[str]:
    """Where the row goes: `now` or `later` to the host, `claim` or `settle` (with its letter) to the store."""
    made = planned({KEY: row}, {KEY: held} if held else {}, lambda row: tracked, lambda key: here)
    host = [name for name, rows in (("now", made.now), ("later", made.later)) if rows]
    calls = [("claim", made.claims), ("settle", made.settles)]
    return host + [f"{name} {entry.state}" for name, entries in calls for entry in entries]


def test_a_dispatch_is_a_claim_unless_the_run_is_ours_already() -> None:
    row = row_of("a", RowState.DISPATCHED)
    assert plan(row) == ["later", "claim c"]
    assert plan(row, held=(1, 1)) == ["now"]
    assert plan(replace(row, attempt=2), held=(1, 1)) == ["later", "claim c"]


@pytest.mark.parametrize("state", DECIDED)
def test_a_decision_is_a_settle_and_on_the_host_at_once_if_the_run_was_begun_here(state: RowState) -> None:
    row = row_of("a", state)
    letter = {"done": "o", "gone": "g"}.get(state, state[0].upper() if state.open else state[0])
    assert plan(row, held=(1, 1)) == ["now", f"settle {letter}"]
    assert plan(row, here=row_of("a", RowState.DISPATCHED)) == ["now", f"settle {letter}"]
    assert plan(row) == ["later", f"settle {letter}"]
    assert plan(row, here=replace(row, attempt=2)) == ["later", f"settle {letter}"]


def test_what_is_given_back_is_told_if_the_store_has_it_as_ours() -> None:
    assert plan(row_of("a", RowState.RETURNED), held=(1, 1)) == ["now", "settle u"]
    assert plan(row_of("a", RowState.RETURNED)) == ["now"]


@pytest.mark.parametrize("state", RowState)
def test_a_message_that_the_fleet_does_not_know_stays_on_its_host(state: RowState) -> None:
    assert plan(row_of("a", state), tracked=False) == ["now"]


def test_the_name_is_told_once() -> None:
    claim = planned({KEY: row_of("a", RowState.DISPATCHED)}, {}, lambda row: True, lambda key: None).claims
    settle = planned({KEY: row_of("a")}, {KEY: (1, 1)}, lambda row: True, lambda key: None).settles
    assert (claim[0].name, settle[0].name) == ("a", "")


def test_the_account_of_what_is_ours_follows_what_was_granted() -> None:
    held: dict[bytes, tuple[int, int]] = {}
    for state, run in (("c", (1, 1)), ("R", (1, 1)), ("c", (1, 2)), ("P", (1, 2))):
        holding(held, [Entry(KEY, *run, state)])
        assert held == {KEY: run}
    for state in "ordpgu":
        holding(held, [Entry(KEY, 1, 2, "c")])
        holding(held, [Entry(KEY, 1, 2, state)])
        assert held == {}


def test_the_row_in_the_way_is_told_in_this_ledgers_time() -> None:
    refusal = Refusal(KEY, 2, 3, "D", 17, 40.0, "a", b"why", "there", True, True)
    told = rival(refusal, now_s=1000.0)
    assert told == (Row(KEY, 2, 3, RowState.DEAD_PENDING, 0, 0, 960.0, "a", b"why", 17), "there", True)


@pytest.mark.parametrize("state", OPEN)
def test_a_refused_decision_leaves_what_the_other_host_has_decided(state: RowState) -> None:
    mine = replace(row_of("a", state), note=b"mine")
    settled = replace(row_of("a", RowState.DEAD), attempt=2, note=b"theirs")
    after = corrected(mine, settled)
    assert after is not None
    assert (after.state, after.attempt, after.note, after.slot) == (RowState.DEAD, 2, b"theirs", mine.slot)
    held = corrected(mine, row_of("a", RowState.RETRY_PENDING))
    assert held is not None
    assert (held.state, held.attempt, held.note) == (RowState.RETURNED, 1, b"")


def test_what_was_done_here_stays_on_record() -> None:
    assert corrected(row_of("a"), row_of("a", RowState.PARKED)) is None


@pytest.mark.parametrize(
    ("here", "does"),
    [
        (None, "release"),
        (row_of("a", RowState.RETURNED), "release"),
        (replace(row_of("a", RowState.RETRY), attempt=1), "release"),
        (replace(row_of("a", RowState.RETRY_PENDING), attempt=1), "release, tell after"),
        (replace(row_of("a", RowState.DISPATCHED), attempt=2), "tell"),
        (replace(row_of("a", RowState.DONE), attempt=2), "tell"),
        (replace(row_of("a", RowState.DEAD_PENDING), attempt=2), "tell"),
        (replace(row_of("a", RowState.DISPATCHED), attempt=3), "tell"),
    ],
)
def test_a_row_of_the_store_is_compared_with_the_hosts(here: Row | None, does: str) -> None:
    if here is not None and here.state is RowState.RETURNED:
        here = replace(here, attempt=2)
    found = {KEY: here} if here is not None else {}
    todo = reconciled(
        [Entry(KEY, 1, 2, "c")], found, [row for row in found.values() if row.state.open], lambda row: True
    )
    assert [entry.state for entry in todo.releases] == (["u"] if does.startswith("release") else [])
    assert (list(todo.rows), list(todo.after)) == ([KEY] if does == "tell" else [], [KEY] if "after" in does else [])


def test_an_open_row_that_the_store_does_not_have_is_told_again_if_the_fleet_knows_its_message() -> None:
    rows = [row_of("a", RowState.DISPATCHED), row_of("b", RowState.PARKED_PENDING), row_of("x", RowState.DISPATCHED)]
    todo = reconciled([], {}, rows, lambda row: row.id != "x")
    assert list(todo.rows) == [key_of("a"), key_of("b")]
    assert (todo.releases, todo.after) == ([], {})
