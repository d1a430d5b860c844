"""Facts about rows that the ledger refuses, and faults in what follows: the model check must find each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from supervisor.brokers.base import Outgoing
from supervisor.consumer.observe.traces import trace_of_waiting
from supervisor.consumer.settlement import missing
from supervisor.consumer.settlement.messages import Phase, failure_of
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.settlement.unit_of_work import Ack, Requeue, Send, UnitOfWork
from supervisor.ledger.base import Rival, Row, RowState
from supervisor.logs.events import Event
from supervisor.scoreboard.words import OutcomeKind
from tests.support import settlement_ledger
from tests.support.settlement_events import happen, possible
from tests.support.settlement_ledger import LedgerModel
from tests.support.settlement_parts import Broken, Laws
from tests.support.settlement_search import explore
from tests.support.settlement_world import World
from tests.support.settling import QUEUE, RAISED, W0, Bench, key_of

Patch = pytest.MonkeyPatch


def refused(bench: Bench, state: RowState, attempt: int = 1, lost: bool = False, note: bytes = b"") -> None:
    """The commit of the turn finds a row of another daemon, on the host b, in this state."""
    claim = bench.settlement.decisions.take().rows[key_of("m")]
    bench.settlement.refused(claim, Rival(Row(key_of("m"), 1, attempt, state, 0, 1, 0.0, "m", note, 99), "b", lost))


def claimed(**pool: Any) -> tuple[Bench, int]:
    """A message is about to be sent to a worker; its tag."""
    bench = Bench(**pool)
    tag = bench.deliver()
    bench.assign()
    return bench, tag


@pytest.mark.parametrize("state", [RowState.DONE, RowState.RETRY, RowState.DEAD, RowState.PARKED])
def test_i2_a_message_that_another_daemon_has_settled_is_acked_and_not_sent(state: RowState) -> None:
    bench, tag = claimed()
    refused(bench, state)
    assert bench.settlement.decisions.take_effects() == []
    over = bench.turn()
    assert (over.effects, over.rows, over.counters) == ([Ack(1, tag)], {}, {"duplicate": 1})
    assert (bench.settlement.entries, bench.settlement.assignments.workers()) == ({}, set())


@pytest.mark.parametrize("state", [RowState.DISPATCHED, RowState.RETRY_PENDING, RowState.DEAD_PENDING])
def test_i3_a_message_that_another_daemon_has_in_hand_is_held_and_claimed_again(state: RowState) -> None:
    bench, _ = claimed()
    refused(bench, state)
    assert bench.settlement.decisions.take_effects() == []
    over = bench.turn()
    assert (over.effects, over.rows, over.counters) == ([], {}, {})
    assert bench.settlement.assignments.waiting == {}
    (entry,) = bench.settlement.entries.values()
    told = trace_of_waiting(entry)
    assert (told.state, told.holder) == ("held", "host 'b' (epoch 99)")
    bench.settlement.claim_again()
    run = bench.assign()
    over = bench.turn()
    assert [row.state for row in over.rows.values()] == [RowState.DISPATCHED]
    assert [effect.frame.run for effect in over.effects if isinstance(effect, Send)] == [run]


def test_another_delivery_of_a_held_message_is_settled_with_it() -> None:
    bench, tag = claimed()
    refused(bench, RowState.DISPATCHED)
    second = bench.deliver()
    bench.settlement.claim_again()
    bench.assign()
    refused(bench, RowState.DONE)
    bench.settlement.decisions.take_effects()
    over = bench.turn()
    assert (over.effects, over.counters) == ([Ack(1, tag), Ack(1, second)], {"duplicate": 2})


@pytest.mark.parametrize("order", [Settlement.drain, Settlement.disconnected])
def test_a_held_message_is_given_back_at_a_drain_and_forgotten_without_a_connection(
    order: Callable[[Settlement], None],
) -> None:
    bench, tag = claimed()
    refused(bench, RowState.DISPATCHED)
    order(bench.settlement)
    over = bench.turn()
    assert [effect for effect in over.effects if isinstance(effect, Requeue)] == (
        [Requeue(1, tag)] if order is Settlement.drain else []
    )
    assert (bench.settlement.entries, bench.settlement.assignments.held) == ({}, {})


def test_a_message_whose_delivery_is_gone_by_the_refusal_is_not_held() -> None:
    bench, _ = claimed()
    claim = bench.settlement.decisions.take().rows[key_of("m")]
    bench.settlement.disconnected()
    bench.settlement.refused(claim, Rival(msgspec.structs.replace(claim, epoch=99), "b"))
    assert (bench.settlement.entries, bench.settlement.assignments.held) == ({}, {})


@pytest.mark.parametrize("state", [RowState.RETURNED, RowState.DISPATCHED, RowState.RETRY_PENDING])
def test_i2_an_earlier_run_than_that_of_another_daemon_is_acked_and_not_sent(state: RowState) -> None:
    bench, tag = claimed()
    refused(bench, state, attempt=2)
    assert bench.settlement.decisions.take_effects() == []
    over = bench.turn()
    assert (over.effects, over.rows, over.counters) == ([Ack(1, tag)], {}, {"duplicate": 1})


def test_i5_what_a_lost_host_had_begun_is_in_doubt_and_said_so_before_another_attempt() -> None:
    bench, _ = claimed()
    refused(bench, RowState.DISPATCHED, lost=True)
    bench.settlement.decisions.take_effects()
    over = bench.turn()
    (row,) = over.rows.values()
    assert (row.state, failure_of(row).cause) == (RowState.RETRY_PENDING, "host_lost")
    assert "host 'b', which had it, was declared lost (epoch 99)" in failure_of(row).reason
    assert [said.event for said in over.said] == [Event.MESSAGE_FAILED]
    assert [effect.routing_key for effect in over.effects if isinstance(effect, Outgoing)] == [QUEUE]


def test_i5_what_a_lost_host_had_begun_is_parked_where_crashes_are() -> None:
    bench, _ = claimed(on_crash="park")
    refused(bench, RowState.DISPATCHED, lost=True)
    bench.settlement.decisions.take_effects()
    assert [row.state for row in bench.turn().rows.values()] == [RowState.PARKED_PENDING]


@pytest.mark.parametrize(
    ("state", "pending", "lost"),
    [
        (RowState.DEAD_PENDING, "", True),
        (RowState.RETRY_PENDING, "", True),
        (RowState.GONE, "dead_pending", False),
        (RowState.GONE, "retry_pending", True),
    ],
)
def test_i1_what_another_daemon_has_decided_and_cannot_copy_is_copied_here(
    state: RowState, pending: str, lost: bool
) -> None:
    bench, _ = claimed()
    decided = msgspec.structs.replace(RAISED, pending=pending)
    refused(bench, state, lost=lost, note=msgspec.msgpack.encode(decided))
    bench.settlement.decisions.take_effects()
    over = bench.turn()
    (row,) = over.rows.values()
    assert (row.state, failure_of(row).reason) == (pending or state, RAISED.reason)
    assert len([effect for effect in over.effects if isinstance(effect, Outgoing)]) == 1


def test_a_decision_that_is_refused_is_made_again_later_and_no_worker_gets_the_message() -> None:
    bench = Bench(missing_id="dead_letter")
    tag = bench.deliver(None)
    (key,) = bench.settlement.entries
    row = bench.settlement.decisions.take().rows[key]
    bench.settlement.refused(row, Rival(msgspec.structs.replace(row, state=RowState.DISPATCHED, epoch=99), "b"))
    assert bench.settlement.decisions.take_effects() == []
    bench.settlement.claim_again()
    assert bench.settlement.assignments.waiting == {}
    over = bench.turn()
    assert ([row.state for row in over.rows.values()], len(over.effects)) == ([RowState.DEAD_PENDING], 1)
    assert bench.settlement.entries[key].tags == [(1, tag)]


@pytest.mark.parametrize("kind", [OutcomeKind.DONE, OutcomeKind.FAILED])
def test_an_outcome_that_another_daemon_has_overruled_is_logged_with_its_host(kind: OutcomeKind) -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, kind)
    refused(bench, RowState.RETRY_PENDING, attempt=1)
    (said,) = [said for said in bench.turn().said if said.event is Event.FLEET_OVERRULED]
    assert (said.fields["message_id"], said.fields["attempt"], said.fields["host"]) == ("m", 1, "b")


def test_what_was_decided_while_the_claim_was_under_way_is_dropped() -> None:
    bench, tag = claimed()
    claim = bench.settlement.decisions.take().rows[key_of("m")]
    bench.settlement.greeted(W0, [])
    bench.assign()
    bench.settlement.refused(claim, Rival(Row(key_of("m"), 1, 1, RowState.DONE, 0, 1, 0.0, "m", b"", 99)))
    assert bench.settlement.decisions.take_effects() == []
    over = bench.turn()
    assert (over.effects, over.rows) == ([Ack(1, tag)], {})


def test_a_failed_message_without_a_body_is_handed_over_and_copied_when_it_comes() -> None:
    bench = Bench()
    bench.has_row(RowState.DEAD_PENDING, note=msgspec.msgpack.encode(RAISED))
    bench.settlement.restore_row(bench.rows[key_of("m")])
    (entry,) = bench.settlement.entries.values()
    bench.settlement.give_up_missing(entry, "", missing.hand_over)
    over = bench.turn()
    assert ([row.state for row in over.rows.values()], over.said, over.counters) == ([RowState.GONE], [], {})
    bench.deliver()
    over = bench.turn()
    assert [row.state for row in over.rows.values()] == [RowState.DEAD_PENDING]


def a_claim_that_was_refused_is_sent(patch: Patch) -> None:
    patch.setattr(Settlement, "refused", lambda self, row, rival: None)


def what_follows_a_refused_claim_is_done(patch: Patch) -> None:
    patch.setattr(UnitOfWork, "revoke", lambda self, key, token: None)


def a_message_that_another_daemon_runs_is_acked(patch: Patch) -> None:
    def mutant(self: Settlement, row: Row, rival: Rival) -> None:
        refused(self, row, rival._replace(row=msgspec.structs.replace(rival.row, state=RowState.DONE)))

    refused = Settlement.refused
    patch.setattr(Settlement, "refused", mutant)


def a_message_that_another_daemon_has_settled_is_held(patch: Patch) -> None:
    def mutant(self: Settlement, row: Row, rival: Rival) -> None:
        refused(self, row, rival._replace(row=msgspec.structs.replace(rival.row, state=RowState.DISPATCHED)))

    refused = Settlement.refused
    patch.setattr(Settlement, "refused", mutant)


def a_held_message_is_never_claimed_again(patch: Patch) -> None:
    patch.setattr(Settlement, "claim_again", lambda self: None)


def a_held_message_outlives_its_delivery(patch: Patch) -> None:
    patch.setattr(Phase, "is_unassigned", property(lambda self: self is Phase.WAITING))


def only_open_rows_and_settled_later_ones_refuse(patch: Patch) -> None:
    def mutant(there: Row, row: Row) -> bool:
        later = (there.round, there.attempt) >= (row.round, row.attempt)
        return there.state.open or (later and there.state is not RowState.RETURNED)

    patch.setattr(settlement_ledger, "in_the_way", mutant)


def claims_are_granted_unseen(patch: Patch) -> None:
    patch.setattr(LedgerModel, "_refuses", lambda self, row: False)


FOUND_IN: dict[Callable[[Patch], None], Laws] = {
    a_claim_that_was_refused_is_sent: Laws((b"a",), workers=1, faults=1, rival=True),
    what_follows_a_refused_claim_is_done: Laws((b"a",), workers=1, faults=1, rival=True),
    a_message_that_another_daemon_runs_is_acked: Laws((b"a",), workers=1, faults=3, rival=True),
    a_message_that_another_daemon_has_settled_is_held: Laws((b"a",), workers=1, faults=1, rival=True),
    a_held_message_is_never_claimed_again: Laws((b"a",), workers=1, faults=3, rival=True),
    a_held_message_outlives_its_delivery: Laws((b"a",), workers=1, faults=3, rival=True),
    only_open_rows_and_settled_later_ones_refuse: Laws((b"a",), workers=1, faults=3, rival=True),
    claims_are_granted_unseen: Laws((b"a",), workers=1, faults=1, rival=True),
}


@pytest.mark.parametrize("mutant", FOUND_IN, ids=lambda mutant: mutant.__name__)
def test_the_model_check_finds(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    world = World(FOUND_IN[mutant])
    for event in [event for event in possible(world, faults=False) if event.name == "hello"]:
        happen(world, event)
    with pytest.raises(Broken):
        explore(world, 10, rest_every=2)
