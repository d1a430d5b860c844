"""What holders do about one that is silent: look, end its epoch, let others decide about its rows."""

from __future__ import annotations

import pytest

from supervisor.fleet import calls
from supervisor.fleet.calls import Epoch, Peer
from supervisor.fleet.connection import Failure
from supervisor.fleet.encoding import Answer, Statement
from tests.support.fleet import driven
from tests.support.fleet_store import Entry, FleetStore, Holder, StoreError, Way
from tests.support.postgresql import PostgreSQL

LEASE_S, MAX_RUN_S = 90.0, 3600.0


@pytest.fixture
def a(store: FleetStore) -> Holder:
    return store.holder("a")


@pytest.fixture
def b(store: FleetStore) -> Holder:
    return store.holder("b")


def peers(me: Holder) -> list[tuple[object, ...]]:
    return me.caller.ask(
        "SELECT epoch, turn, state, host, lease_s, max_run_s, open_rows FROM preforkd.peers_1(%s)", me.epoch
    )


def fence(me: Holder, other: Holder, turn: int) -> bool:
    ((fenced,),) = me.caller.ask("SELECT preforkd.fence_1(%s, %s, %s)", me.epoch, other.epoch, turn)
    assert isinstance(fenced, bool)
    return fenced


def lose(me: Holder, other: Holder) -> bool:
    ((lost,),) = me.caller.ask("SELECT preforkd.lose_1(%s, %s)", me.epoch, other.epoch)
    assert isinstance(lost, bool)
    return lost


def test_a_holder_that_has_not_called_since_is_fenced(a: Holder, b: Holder) -> None:
    a.claim(1)
    assert fence(b, a, 0) is False, "it has called since"
    assert fence(b, a, 1) is True
    assert fence(b, a, 1) is False, "it has ended"
    with pytest.raises(StoreError, match="PF001"):
        a.call()
    with pytest.raises(StoreError, match="PF001"):
        a.caller.ask("SELECT preforkd.resume_1(%s)", a.epoch)


def test_rows_of_a_fenced_holder_are_its_own_until_it_is_lost(a: Holder, b: Holder) -> None:
    a.claim(1)
    assert lose(b, a) is False, "it lives"
    assert fence(b, a, 1) is True
    assert b.call([Entry(1, "R")]) == {1: Way("c", (1, 1), a.epoch, True)}
    assert lose(b, a) is True
    assert lose(b, a) is False, "it is lost"
    assert b.claim(1) == {1: Way("c", (1, 1), a.epoch, True, True)}, "in doubt, not free"
    assert b.call([Entry(1, "R")]) == {}


def test_a_fenced_host_that_is_back_has_its_rows_again(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1)
    assert fence(b, a, 1) is True
    again = store.unregistered("a", a.ledger, "after a boot")
    assert again.register() is None
    assert again.mine() == [(1, (1, 1), "c")]
    assert peers(b) == [(again.epoch, 0, "l", "a", LEASE_S, MAX_RUN_S, 0)]


def test_peers_are_those_that_live_and_those_fenced_with_open_rows(store: FleetStore, a: Holder, b: Holder) -> None:
    idle, gone = store.holder("c"), store.holder("d")
    a.claim(1, 2)
    gone.caller.ask("SELECT preforkd.leave_1(%s, 0)", gone.epoch)
    live = [(a.epoch, 1, "l", "a", LEASE_S, MAX_RUN_S, 0), (idle.epoch, 0, "l", "c", LEASE_S, MAX_RUN_S, 0)]
    assert peers(b) == live
    assert fence(b, a, 1) and fence(b, idle, 0)
    assert peers(b) == [(a.epoch, 1, "f", "a", LEASE_S, MAX_RUN_S, 2)]
    assert lose(b, a)
    assert peers(b) == []


def test_holders_of_another_queue_and_of_the_own_ledger_are_no_peers(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1)
    again = store.unregistered("a", a.ledger)
    assert again.register() is None
    assert peers(again) == [(b.epoch, 0, "l", "b", LEASE_S, MAX_RUN_S, 0)]
    store.owner.ask("UPDATE preforkd.holder SET queue = 'other' WHERE epoch = %s", b.epoch)
    assert peers(again) == peers(b) == []


@pytest.mark.parametrize("call", ["peers_1(%s)", "fence_1(%s, {other}, 0)", "lose_1(%s, {other})"])
def test_a_holder_that_has_ended_does_nothing_about_others(store: FleetStore, a: Holder, b: Holder, call: str) -> None:
    store.forget(a)
    with pytest.raises(StoreError, match="PF001"):
        a.caller.ask(f"SELECT * FROM preforkd.{call.format(other=b.epoch)}", a.epoch)
    assert b.call() == {}


def test_the_end_of_a_holder_waits_for_its_call_under_way(store: FleetStore, a: Holder, b: Holder) -> None:
    with a.transaction():
        a.claim(1)
        b.caller.begin("SELECT preforkd.fence_1(%s, %s, 0)", b.epoch, a.epoch)
        store.until_waiting(b)
    assert b.caller.end() == [(False,)]


def test_status_tells_who_has_fenced_and_who_has_lost_a_holder(store: FleetStore, a: Holder, b: Holder) -> None:
    by = "SELECT state, lost, fenced_by, lost_by FROM preforkd.holders_1() WHERE host = 'a'"
    a.claim(1)
    assert store.owner.ask(by) == [("l", False, "", "")]
    fence(b, a, 1)
    assert store.owner.ask(by) == [("f", False, "b", "")]
    lose(b, a)
    assert store.owner.ask(by) == [("f", True, "b", "b")]


def test_an_operator_declares_a_fenced_host_lost_before_its_time(store: FleetStore, a: Holder, b: Holder) -> None:
    a.claim(1)
    fence(b, a, 1)
    assert store.owner.ask("SELECT * FROM preforkd.forget_1('a')") == [(a.epoch, "pool", "queue", 1)]
    told = store.owner.ask("SELECT lost, fenced_by, lost_by FROM preforkd.holders_1() WHERE host = 'a'")
    assert told == [(True, "b", "")]
    assert b.call([Entry(1, "R")]) == {}


def test_a_consumer_makes_these_calls_in_binary(
    store: FleetStore, postgresql: PostgreSQL, a: Holder, b: Holder
) -> None:
    ((database,),) = store.owner.ask("SELECT current_database()::text")
    a.claim(1, 2)
    ((settings,),) = store.owner.ask("SELECT settings FROM preforkd.holder WHERE epoch = %s", a.epoch)
    me, other = Epoch(b.epoch, 0), Peer(a.epoch, 2, "l", "a", LEASE_S, MAX_RUN_S, 0, int(str(settings)))
    with driven(database, [("127.0.0.1", postgresql.port)]) as link:

        def ask(statement: Statement) -> Answer:
            answer = link.ask(statement)
            assert not isinstance(answer, Failure), answer
            return answer

        assert calls.watched(ask(calls.peers(me))) == [other._replace(turn=1)]
        assert calls.took_effect(ask(calls.fence(me, other))) is False
        assert calls.took_effect(ask(calls.fence(me, other._replace(turn=1)))) is True
        assert calls.watched(ask(calls.peers(me))) == [other._replace(turn=1, state="f", open_rows=2)]
        assert calls.took_effect(ask(calls.lose(me, a.epoch))) is True
        assert calls.watched(ask(calls.peers(me))) == []
        ended = link.ask(calls.lose(Epoch(a.epoch, 1), b.epoch))
        assert isinstance(ended, Failure)
        assert calls.meaning(ended.sqlstate) is calls.Meaning.ENDED
