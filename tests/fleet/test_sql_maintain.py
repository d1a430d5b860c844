"""Parts of the settled rows: made, looked at, dropped. And how PostgreSQL gets at rows."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.support.fleet_store import Entry, FleetStore, Holder, Row, Way

HOUR_S = 3600
KEEP_S = 6 * HOUR_S
DAY = "1 day"


class Found(NamedTuple):
    current: int
    parts: int
    dropped: int | None
    store_s: float
    kept_s: float


@pytest.fixture
def a(store: FleetStore) -> Holder:
    store.make()
    return store.holder("a")


class Counts(NamedTuple):
    """Of a table: reads from end to end, updates, and those that stayed in their page and touched no index."""

    scans: int
    updates: int
    hot: int


class Counted:
    """What the calls in it do to tables."""

    _ASKED = "SELECT relname, seq_scan, n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE schemaname = %s"

    def __init__(self, holder: Holder) -> None:
        self._caller = holder.caller
        self.by_table: dict[str, Counts] = {}

    def __enter__(self) -> Counted:
        self._caller.ask("BEGIN")
        self._before = self._now()
        return self

    def __exit__(self, *_error: object) -> None:
        for table, counts in self._now().items():
            before = self._before.get(table, Counts(0, 0, 0))
            self.by_table[table] = Counts(*(after - b for after, b in zip(counts, before, strict=True)))
        self._caller.ask("COMMIT")

    def _now(self) -> dict[str, Counts]:
        return {row[0]: Counts(*row[1:]) for row in self._caller.ask(self._ASKED, "preforkd")}


def maintain(holder: Holder, keep_s: float = KEEP_S) -> Found | None:
    rows = holder.caller.ask("SELECT * FROM preforkd.maintain_1(%s)", keep_s)
    return Found(*rows[0]) if rows else None


def pass_(store: FleetStore, time: str) -> None:
    """By the server's clock, since the last call."""
    store.owner.ask("UPDATE preforkd.clock SET seen = seen - %s::interval", time)


def hours(store: FleetStore, holder: Holder, number: int) -> list[Found]:
    """One call each hour."""
    found = []
    for _ in range(number):
        pass_(store, "1 hour")
        one = maintain(holder)
        assert one is not None
        found.append(one)
    return found


# ---- what is forgotten, and when ----------------------------------------------------------------------------------


def test_settled_rows_are_kept_for_that_time_and_dropped_soon_after(store: FleetStore, a: Holder) -> None:
    assert maintain(a) is not None
    a.claim(1)
    a.settle("o", 1)
    found = hours(store, a, 9)
    assert [one.dropped for one in found[:8]] == [None] * 8
    assert found[7].current == 5, "a new part for each third of the time"
    assert a.claim(1) == {}, "the part ended two hours after the row was written, and was kept for six"
    assert found[8].dropped == 1
    assert found[8].parts == 4


def test_rows_of_all_parts_are_found(store: FleetStore, a: Holder) -> None:
    maintain(a)
    for key in range(1, 4):
        a.claim(key)
        a.settle("o", key)
        hours(store, a, 2)
    assert store.owner.ask("SELECT part FROM preforkd.settled ORDER BY id") == [(1,), (2,), (3,)]
    assert a.claim(1, 2, 3) == {key: Way("o", (1, 1), a.epoch, False) for key in (1, 2, 3)}


def test_a_clock_that_is_set_forward_drops_nothing_and_hides_nothing(store: FleetStore, a: Holder) -> None:
    maintain(a)
    a.claim(1)
    a.settle("o", 1)
    for _ in range(3):
        pass_(store, "30 days")
        found = maintain(a)
        assert found is not None
        assert found.dropped is None
    assert a.claim(1) == {1: Way("o", (1, 1), a.epoch, False)}
    assert 3 * HOUR_S <= found.store_s < 3 * HOUR_S + 60


def test_a_row_of_a_clock_that_is_ahead_is_found_and_kept_no_longer(store: FleetStore, a: Holder) -> None:
    maintain(a)
    a.claim(1)
    a.settle("o", 1)
    store.owner.ask("UPDATE preforkd.settled SET at = now() + interval '30 days'")
    assert a.claim(1) == {1: Way("o", (1, 1), a.epoch, False)}
    assert hours(store, a, 9)[-1].dropped == 1


def test_a_clock_that_is_set_back_does_not_let_the_store_grow_younger(store: FleetStore, a: Holder) -> None:
    (first,) = hours(store, a, 1)
    pass_(store, "-30 days")
    found = maintain(a)
    assert found is not None
    assert first.store_s <= found.store_s < first.store_s + 60
    assert hours(store, a, 1)[0].store_s >= first.store_s + HOUR_S


def test_the_longest_time_that_was_asked_for_counts(store: FleetStore, a: Holder) -> None:
    maintain(a, 3 * KEEP_S)
    found = hours(store, a, 12)
    assert {one.dropped for one in found} == {None}
    assert found[-1].kept_s == 3 * KEEP_S
    assert a.caller.ask("SELECT keep_s FROM preforkd.about_1()") == [(3 * KEEP_S,)]


def test_one_part_at_most_is_dropped_in_a_call(store: FleetStore, a: Holder) -> None:
    maintain(a)
    hours(store, a, 8)
    store.owner.ask("UPDATE preforkd.clock SET elapsed_s = elapsed_s + 1000000")
    found = [maintain(a) for _ in range(7)]
    assert [one and one.dropped for one in found] == [1, 2, 3, 4, None, None, None], "the last but one is kept a while"
    assert a.claim(1) == {}


def test_ended_epochs_are_forgotten_with_the_last_rows_that_may_name_them(store: FleetStore, a: Holder) -> None:
    maintain(a)
    gone, lost = store.holder("gone"), store.holder("lost")
    gone.claim(1)
    gone.settle("o", 1)
    lost.claim(2)
    store.owner.ask("SELECT preforkd.leave_1(%s, 2)", gone.epoch)
    store.forget(lost)
    hours(store, a, 8)
    assert a.claim(1) == {1: Way("o", (1, 1), gone.epoch, False)}
    hours(store, a, 1)
    assert store.owner.ask("SELECT host FROM preforkd.holder ORDER BY host") == [("a",), ("lost",)]
    assert a.claim(2) == {2: Way("c", (1, 1), lost.epoch, True, lost=True)}


# ---- beside claims and settles ------------------------------------------------------------------------------------


def test_a_new_part_waits_for_no_turn_and_no_turn_for_it(store: FleetStore, a: Holder) -> None:
    b = store.holder("b")
    a.claim(1)
    maintain(b)
    with a.transaction():
        a.settle("o", 1)
        hours(store, b, 2)
        with b.transaction():
            pass_(store, "2 hours")
            assert maintain(b) is not None
            a.claim(2)
            assert a.settle("o", 2) == {}
    assert a.claim(1, 2, 3) == {key: Way("o", (1, 1), a.epoch, False) for key in (1, 2)}
    a.settle("o", 3)
    assert store.owner.ask("SELECT count(DISTINCT part) FROM preforkd.settled") == [(2,)]


def test_a_part_in_use_is_dropped_by_a_later_call(store: FleetStore, a: Holder) -> None:
    b = store.holder("b")
    maintain(b)
    hours(store, b, 8)
    with a.transaction():
        a.claim(1)  # it has looked at all parts
        assert hours(store, b, 1)[0].dropped is None
        assert b.claim(2) == {}, "claims go on"
    later = maintain(b)
    assert later is not None
    assert later.dropped == 1


def test_two_calls_at_the_same_time_are_one(store: FleetStore, a: Holder) -> None:
    b = store.holder("b")
    with a.transaction():
        assert maintain(a) is not None
        assert maintain(b) is None
    assert maintain(b) is not None


# ---- how rows are reached -----------------------------------------------------------------------------------------


def test_turns_read_no_table_from_end_to_end_and_beats_stay_in_their_page(store: FleetStore, a: Holder) -> None:
    maintain(a)
    hours(store, a, 4)
    for number in range(8):  # from the sixth on with a plan that is kept
        a.claim(*range(number * 10, number * 10 + 10))
        a.settle("o", *range(number * 10, number * 10 + 9))
    with Counted(a) as counted:
        a.claim(*range(100, 600))
        a.call([Entry(key) for key in range(20)], [Entry(key, "o") for key in range(100, 600)])
        a.settle("d", *range(700, 710))
        a.call()
    assert {"open", "holder", "settled_1", "settled_3"} <= counted.by_table.keys()
    assert {name: counts.scans for name, counts in counted.by_table.items() if counts.scans} == {}
    assert counted.by_table["holder"] == Counts(0, 4, 4)


def test_a_row_that_becomes_pending_or_changes_hands_stays_in_its_page(store: FleetStore, a: Holder) -> None:
    a.claim(*range(40))
    again = store.unregistered(a.host, a.ledger)
    assert again.register() is None
    with Counted(again) as counted:
        again.settle("R", *range(40))
    assert counted.by_table["open"] == Counts(0, 40, 40)
    assert store.open_rows()[0] == Row(0, (1, 1), "R", again.epoch)
