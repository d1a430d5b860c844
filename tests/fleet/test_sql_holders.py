"""Holders from their registration to their end, and who may do what."""

from __future__ import annotations

import pytest

from supervisor.fleet import schema
from tests.support.fleet_store import DAEMON, Entry, FleetStore, Holder, Row, StoreError, Way


@pytest.fixture
def a(store: FleetStore) -> Holder:
    return store.holder("a")


def copy_of(holder: Holder, place: str = "here") -> Holder:
    """Another process with the same ledger."""
    return holder.store.unregistered(holder.host, holder.ledger, place)


# ---- registration -------------------------------------------------------------------------------------------------


def test_a_new_epoch_takes_over_all_open_rows_and_ends_the_former(store: FleetStore, a: Holder) -> None:
    a.claim(1, 2)
    a.settle("R", 2)
    again = copy_of(a)
    assert again.register() is None
    assert again.epoch > a.epoch
    assert again.mine() == [(1, (1, 1), "c"), (2, (1, 1), "R")]
    with pytest.raises(StoreError, match="PF001"):
        a.call()
    assert again.settle("o", 1) == {}


def test_i3_the_longest_run_of_an_epoch_whose_rows_are_taken_over_counts_on(store: FleetStore, a: Holder) -> None:
    """Its runs may go on for so long, whatever the new epoch would allow."""

    def longest(holder: Holder) -> list[tuple[object, ...]]:
        return store.owner.ask("SELECT max_run_s FROM preforkd.holder WHERE epoch = %s", holder.epoch)

    usual = longest(a)
    store.owner.ask("UPDATE preforkd.holder SET max_run_s = 99999 WHERE epoch = %s", a.epoch)
    a.claim(1)
    again = copy_of(a)
    assert again.register() is None
    assert longest(again) == [(99999.0,)]
    again.settle("o", 1)
    later = copy_of(a)
    assert later.register() is None
    assert longest(later) == usual


def test_rows_of_all_former_epochs_are_taken_over_but_none_that_was_adopted(store: FleetStore, a: Holder) -> None:
    a.claim(1, 2)
    store.forget(a)
    other = store.holder("b")
    other.call([Entry(1, "R")])
    again = copy_of(a)
    assert again.register() is None
    assert again.mine() == [(2, (1, 1), "c")]
    assert other.mine() == [(1, (1, 1), "R")]
    assert again.settle("o", 1) == {1: Way("R", (1, 1), other.epoch, True)}


def test_a_copied_ledger_is_blocked_by_a_live_holder_and_changes_nothing(store: FleetStore, a: Holder) -> None:
    a.claim(1)
    assert copy_of(a, "elsewhere").register() == (a.epoch, 1)
    assert a.claim(2) == {}


def test_a_holder_at_another_place_is_fenced_if_its_turn_stood_still(store: FleetStore, a: Holder) -> None:
    a.claim(1)
    moved = copy_of(a, "elsewhere")
    seen = moved.register()
    a.call()
    later = moved.register(seen)
    assert later == (a.epoch, 2), "it lives"
    assert moved.register((a.epoch + 1, 2)) == (a.epoch, 2), "another epoch"
    assert moved.register(later) is None
    assert moved.mine() == [(1, (1, 1), "c")]


@pytest.mark.parametrize("end", ["left", "lost"])
def test_a_holder_that_has_ended_does_not_block(store: FleetStore, a: Holder, end: str) -> None:
    if end == "left":
        assert a.caller.ask("SELECT preforkd.leave_1(%s, %s)", a.epoch, a.turn) == [(True,)]
    else:
        store.forget(a)
    assert copy_of(a, "elsewhere").register() is None


def test_ledgers_of_one_host_do_not_block_each_other(store: FleetStore, a: Holder) -> None:
    assert store.holder("a").epoch > a.epoch


# ---- the end ------------------------------------------------------------------------------------------------------


def test_a_holder_with_open_rows_stays_live_when_it_leaves(store: FleetStore, a: Holder) -> None:
    a.claim(1)
    leave = "SELECT preforkd.leave_1(%s, %s)"
    assert a.caller.ask(leave, a.epoch, 1) == [(False,)]
    a.turn = 2
    a.settle("d", 1)
    assert a.caller.ask(leave, a.epoch, 3) == [(True,)]
    with pytest.raises(StoreError, match="PF001"):
        a.call()


def test_a_forgotten_host_is_told_with_what_it_had_open(store: FleetStore, a: Holder) -> None:
    a.claim(1, 2)
    other = store.holder("b")
    asked = "SELECT * FROM preforkd.forget_1(%s)"
    assert store.owner.ask(asked, "a") == [(a.epoch, "pool", "queue", 2)]
    assert store.owner.ask(asked, "a") == store.owner.ask(asked, "unknown") == []
    assert other.call() == {}


def test_holders_are_shown_with_their_open_rows(store: FleetStore, a: Holder) -> None:
    b, gone = store.holder("b"), store.holder("c")
    a.claim(1, 2, 3, 4)
    a.call([], [Entry(2, "R"), Entry(3, "D"), Entry(4, "P")])
    store.forget(a)
    store.forget(gone)
    first, second = b.caller.ask("SELECT * FROM preforkd.holders_1()")
    assert first[:6] == ("a", "pool", "queue", a.epoch, "f", True)
    assert first[7:] == (1, 1, 1, 1, 90.0, 5, "1.0", "", "")
    assert second[:6] == ("b", "pool", "queue", b.epoch, "l", False)
    assert 0 <= second[6] < 60
    assert second[7:11] == (0, 0, 0, 0)


# ---- rights and versions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["meta", "clock", "holder", "open", "settled", "part", "settled_1", "epochs"])
def test_the_role_of_daemons_reaches_no_table(store: FleetStore, table: str) -> None:
    with pytest.raises(StoreError, match="42501"):
        store.caller(DAEMON).ask(f"SELECT * FROM preforkd.{table}")


@pytest.mark.parametrize(
    "call",
    [
        "forget_1('a')",
        "begin_turn(1, 0)",
        "lock_both(1, 2)",
        "take(1, '{}', 1)",
        "settle(1, '{}', 1)",
        "give_up_settled(1, '{}')",
        "without_place(1, '{}')",
        "current_part()",
        "add_part(7, 0)",
        "drop_part(1)",
    ],
)
def test_the_role_of_daemons_executes_no_other_function(store: FleetStore, call: str) -> None:
    with pytest.raises(StoreError, match="42501"):
        store.caller(DAEMON).ask(f"SELECT preforkd.{call}")


def test_another_role_may_do_nothing(store: FleetStore) -> None:
    store.owner.ask("DROP ROLE IF EXISTS preforkd_other; CREATE ROLE preforkd_other LOGIN")
    with pytest.raises(StoreError, match="42501"):
        store.caller("preforkd_other").ask("SELECT * FROM preforkd.about_1()")


def test_a_caller_cannot_put_its_own_tables_before_those_of_the_schema(store: FleetStore, a: Holder) -> None:
    a.claim(1)
    a.caller.ask("CREATE TEMP TABLE open (LIKE pg_class); SET search_path = pg_temp, preforkd")
    assert a.mine() == [(1, (1, 1), "c")]
    assert a.settle("o", 1) == {}
    assert store.settled_rows() == [Row(1, (1, 1), "o", a.epoch)]


def test_the_store_tells_what_it_is(store: FleetStore, a: Holder) -> None:
    assert [row[:2] for row in a.caller.ask("SELECT * FROM preforkd.about_1()")] == [(schema.VERSION, "test")]


def test_an_installed_schema_is_installed_again_without_a_change_of_rows(store: FleetStore, a: Holder) -> None:
    a.claim(1)
    assert schema.install(store.owner.ask, "another", DAEMON) == (schema.VERSION, schema.VERSION)
    assert a.caller.ask("SELECT fleet FROM preforkd.about_1()") == [("test",)]
    assert a.settle("o", 1) == {}


def test_a_later_schema_is_left_as_it_is(store: FleetStore) -> None:
    store.owner.ask(f"UPDATE preforkd.meta SET value = '{schema.VERSION + 1}' WHERE name = 'schema'")
    try:
        assert schema.install(store.owner.ask, "test") == (schema.VERSION + 1, schema.VERSION + 1)
        assert schema.found_version(store.owner.ask) == schema.VERSION + 1
    finally:
        store.owner.ask(f"UPDATE preforkd.meta SET value = '{schema.VERSION}' WHERE name = 'schema'")


def test_functions_are_replaced_while_turns_go_on(store: FleetStore, a: Holder) -> None:
    with a.transaction():
        a.claim(1)
        schema.install(store.owner.ask, "test", DAEMON)
        assert a.claim(2) == {}
    assert a.settle("o", 1, 2) == {}


def test_names_are_quoted() -> None:
    assert schema.literal("o'hara") == "'o''hara'"
    assert schema.identifier('odd "role"') == '"odd ""role"""'
    last = schema.rights('odd "role"')[-1]
    assert last.endswith(' TO "odd ""role"""')
