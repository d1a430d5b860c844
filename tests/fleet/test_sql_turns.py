"""What a turn grants and refuses, one call after the other."""

from __future__ import annotations

import pytest

from tests.support.fleet_store import Entry, FleetStore, Holder, Row, StoreError, Way


@pytest.fixture
def a(store: FleetStore) -> Holder:
    return store.holder("a")


@pytest.fixture
def b(store: FleetStore) -> Holder:
    return store.holder("b")


# ---- claims -------------------------------------------------------------------------------------------------------


def test_a_new_message_is_granted_to_one_holder(store: FleetStore, a: Holder, b: Holder) -> None:
    assert a.claim(1) == {}
    assert b.claim(1) == {1: Way("c", (1, 1), a.epoch, True)}
    assert store.open_rows() == [Row(1, (1, 1), "c", a.epoch)]


def test_a_later_run_is_not_granted_while_another_holder_has_the_message(a: Holder, b: Holder) -> None:
    a.claim(1)
    assert b.claim(1, run=(1, 2)) == b.claim(1, run=(2, 1)) == {1: Way("c", (1, 1), a.epoch, True)}


def test_own_claims_are_granted_again_and_by_a_later_run_but_not_by_an_earlier(store: FleetStore, a: Holder) -> None:
    assert a.claim(1, run=(1, 2)) == a.claim(1, run=(1, 2)) == a.claim(1, run=(1, 3)) == {}
    assert a.claim(1, run=(1, 2)) == {1: Way("c", (1, 3), a.epoch, True)}
    assert store.open_rows() == [Row(1, (1, 3), "c", a.epoch)]


@pytest.mark.parametrize("pending", "RDP")
def test_a_later_run_settles_the_copy_that_was_pending(store: FleetStore, a: Holder, pending: str) -> None:
    a.claim(1)
    a.settle(pending, 1)
    assert a.claim(1, run=(2, 1)) == a.claim(1, run=(2, 1)) == {}
    assert a.settle(pending.lower(), 1) == {}, "it comes late, and is settled already"
    assert store.open_rows() == [Row(1, (2, 1), "c", a.epoch)]
    assert store.settled_rows() == [Row(1, (1, 1), pending.lower(), a.epoch)]


@pytest.mark.parametrize("state", "ordpg")
@pytest.mark.parametrize(
    ("run", "refused"),
    [((1, 1), True), ((1, 2), True), ((1, 3), False), ((2, 1), False)],
    ids=["earlier", "same", "later", "another-round"],
)
def test_a_settled_row_refuses_runs_up_to_its_own(
    store: FleetStore, a: Holder, b: Holder, state: str, run: tuple[int, int], refused: bool
) -> None:
    a.claim(1, run=(1, 2))
    assert a.settle(state, 1, run=(1, 2)) == {}
    refused = refused or (state == "o" and run[0] == 1)  # done refuses all runs of its round
    for holder in (a, b):
        assert holder.claim(1, run=run) == ({1: Way(state, (1, 2), a.epoch, False)} if refused else {})
        assert store.open_rows() == ([] if refused else [Row(1, run, "c", holder.epoch)])
        holder.settle("u", 1, run=run)


@pytest.mark.parametrize("state", "RDP")
def test_a_message_that_was_gone_can_be_decided_again_but_not_run(
    store: FleetStore, a: Holder, b: Holder, state: str
) -> None:
    a.claim(1)
    a.settle("g", 1)
    assert b.claim(1) == {1: Way("g", (1, 1), a.epoch, False)}
    assert b.call([Entry(1, state)]) == {}
    assert b.settle(state.lower(), 1) == {}
    assert [row.state for row in store.settled_rows()] == ["g", state.lower()]
    assert a.call([Entry(1, state)]) == {1: Way(state.lower(), (1, 1), b.epoch, False)}, "the newest counts"


def test_what_a_holder_has_open_stays_its_own_whatever_is_settled(store: FleetStore, a: Holder) -> None:
    a.claim(1)
    a.settle("g", 1)
    assert a.call([Entry(1, "R")]) == a.claim(1) == {}
    assert store.open_rows() == [Row(1, (1, 1), "c", a.epoch)]


def test_a_retry_that_is_lost_can_be_decided_again(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1)
    a.settle("r", 1)
    assert b.call([Entry(1, "R")]) == {1: Way("r", (1, 1), a.epoch, False)}
    assert b.settle("g", 1) == b.settle("g", 1) == {}, "without a claim, and once"
    assert a.claim(1) == {1: Way("g", (1, 1), b.epoch, False)}
    assert a.call([Entry(1, "R")]) == a.settle("r", 1) == b.settle("g", 1) == {}
    assert "".join(row.state for row in store.settled_rows()) == "rgrg", "found to be lost again"


def test_another_content_of_the_same_id_is_another_message(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1)
    a.settle("o", 1)
    store.owner.ask("UPDATE preforkd.settled SET digest = 8")
    assert b.claim(1) == {}


# ---- settles ------------------------------------------------------------------------------------------------------


def test_what_is_given_back_leaves_nothing(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1)
    assert a.settle("u", 1) == a.settle("u", 1) == {}
    assert store.open_rows() == store.settled_rows() == []
    assert b.claim(1) == {}
    assert a.settle("u", 1) == {}
    assert store.open_rows() == [Row(1, (1, 1), "c", b.epoch)], "that of another holder stays"


@pytest.mark.parametrize("state", "RDP")
def test_a_pending_row_stays_with_its_holder(store: FleetStore, a: Holder, b: Holder, state: str) -> None:
    a.claim(1)
    assert a.settle(state, 1) == a.settle(state, 1) == {}
    assert b.claim(1) == {1: Way(state, (1, 1), a.epoch, True)}
    assert a.settle(state.lower(), 1) == {}
    assert store.open_rows() == []


@pytest.mark.parametrize("state", "ordpgRDP")
def test_a_settle_that_the_store_knows_nothing_of_is_written(store: FleetStore, a: Holder, state: str) -> None:
    assert a.settle(state, 1) == a.settle(state, 1) == {}
    assert [*store.open_rows(), *store.settled_rows()] == [Row(1, (1, 1), state, a.epoch)]


@pytest.mark.parametrize("state", "ordpgRDP")
def test_a_settle_is_refused_where_another_holder_has_the_message(
    store: FleetStore, a: Holder, b: Holder, state: str
) -> None:
    a.claim(1)
    assert b.settle(state, 1) == {1: Way("c", (1, 1), a.epoch, True)}
    a.settle("d", 1)
    if state != "d":
        assert b.settle(state, 1) == {1: Way("d", (1, 1), a.epoch, False)}
    assert store.open_rows() == []
    assert store.settled_rows() == [Row(1, (1, 1), "d", a.epoch)]


def test_name_and_note_are_those_of_the_last_word_and_the_name_of_the_claim_stays(store: FleetStore, a: Holder) -> None:
    a.call([Entry(1, "c", name="one"), Entry(2, "c", name="two")])
    a.call([], [Entry(1, "R", note=b"why"), Entry(2, "o", note=b"note")])
    assert store.owner.ask("SELECT name, note FROM preforkd.open") == [("one", b"why")]
    assert store.owner.ask("SELECT name, note FROM preforkd.settled") == [("two", b"note")]


def test_a_refusal_tells_all_of_the_row_in_the_way(store: FleetStore, a: Holder, b: Holder) -> None:
    a.call([Entry(1, "c", name="one"), Entry(2, "c", (3, 4), "two")])
    a.call([], [Entry(1, "o", note=b"note")])
    b.begin([Entry(1), Entry(2)])
    one, two = sorted(b.caller.end(), key=lambda row: row[0].int)
    assert (one[1:6], two[1:6]) == ((7, 1, 1, "o", a.epoch), (7, 3, 4, "c", a.epoch))
    assert (one[7:], two[7:]) == (("one", b"note", "a", False, False), ("two", b"", "a", False, True))
    assert 0 <= one[6] < 60
    assert 0 <= two[6] < 60


def test_claims_and_settles_of_one_call_are_all_decided(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1, 2)
    b.claim(3)
    refused = a.call([Entry(3), Entry(4)], [Entry(1, "o"), Entry(2, "R"), Entry(5, "d")])
    assert refused == {3: Way("c", (1, 1), b.epoch, True)}
    assert store.open_rows() == [
        Row(2, (1, 1), "R", a.epoch),
        Row(3, (1, 1), "c", b.epoch),
        Row(4, (1, 1), "c", a.epoch),
    ]
    assert store.settled_rows() == [Row(1, (1, 1), "o", a.epoch), Row(5, (1, 1), "d", a.epoch)]


# ---- lost hosts ---------------------------------------------------------------------------------------------------


def test_a_claimed_row_of_a_lost_host_is_adopted_by_a_decision_only(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1)
    store.forget(a)
    assert b.claim(1) == {1: Way("c", (1, 1), a.epoch, True, lost=True)}
    assert b.call([Entry(1, "R")]) == b.call([Entry(1, "R")]) == {}
    assert store.open_rows() == [Row(1, (1, 1), "R", b.epoch)]


def test_a_decision_of_a_lost_host_is_adopted_as_it_was_made(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1)
    a.settle("D", 1)
    store.forget(a)
    assert b.call([Entry(1, "R")]) == {1: Way("D", (1, 1), a.epoch, True, lost=True)}
    assert b.call([Entry(1, "D")]) == {}


def test_a_later_run_replaces_the_row_of_a_lost_host(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1, 2)
    a.settle("R", 2)
    store.forget(a)
    assert b.claim(1, 2, run=(1, 2)) == {}
    assert store.open_rows() == [Row(1, (1, 2), "c", b.epoch), Row(2, (1, 2), "c", b.epoch)]
    assert store.settled_rows() == [Row(2, (1, 1), "r", a.epoch)]


def test_an_earlier_run_does_not_get_the_row_of_a_lost_host(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1, run=(1, 2))
    store.forget(a)
    assert b.call([Entry(1, "R")]) == {1: Way("c", (1, 2), a.epoch, True, lost=True)}


# ---- turns --------------------------------------------------------------------------------------------------------


def test_a_call_without_claims_and_settles_is_a_beat(store: FleetStore, a: Holder) -> None:
    assert a.call() == a.call() == {}
    assert store.owner.ask("SELECT turn FROM preforkd.holder") == [(2,)]


@pytest.mark.parametrize("turn", [0, 2])
def test_a_call_with_another_number_does_nothing(store: FleetStore, a: Holder, turn: int) -> None:
    a.call()
    a.turn = turn
    with pytest.raises(StoreError) as error:
        a.claim(1)
    assert error.value.sqlstate == "PF002"
    assert store.open_rows() == []


def test_a_request_of_a_former_connection_is_void(store: FleetStore, a: Holder) -> None:
    late = Holder(store, a.host, a.ledger, a.place, store.caller())
    late.epoch, late.turn = a.epoch, a.turn
    a.resume()
    with pytest.raises(StoreError) as error:
        late.claim(1)
    assert error.value.sqlstate == "PF002"
    assert a.claim(1) == {}


def test_a_fenced_holder_can_do_nothing(store: FleetStore, a: Holder) -> None:
    store.forget(a)
    for call in (a.call, lambda: a.claim(1), a.resume):
        with pytest.raises(StoreError) as error:
            call()
        assert error.value.sqlstate == "PF001"
    assert store.open_rows() == []
