"""Facts about rows that the ledger refuses, and faults in what follows: the model check must find each of them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.settlement.unit_of_work import Ack, Requeue, UnitOfWork
from supervisor.ledger.base import Row, RowState
from tests.support import settlement_ledger
from tests.support.settlement_events import happen, possible
from tests.support.settlement_ledger import LedgerModel
from tests.support.settlement_parts import Broken, Laws
from tests.support.settlement_search import explore
from tests.support.settlement_world import World
from tests.support.settling import W0, Bench, key_of

Patch = pytest.MonkeyPatch


def refused(bench: Bench, state: RowState, attempt: int = 1) -> None:
    """The commit of the turn finds a row of another daemon in this state."""
    bench.settlement.decisions.take()
    bench.settlement.refused(key_of("m"), Row(key_of("m"), 1, attempt, state, 0, 1, 0.0, "m", b"", 99))


@pytest.mark.parametrize("state", [RowState.DONE, RowState.RETRY, RowState.DEAD, RowState.PARKED])
def test_i2_a_message_that_another_daemon_has_settled_is_acked_and_not_sent(state: RowState) -> None:
    bench = Bench()
    tag = bench.deliver()
    bench.assign()
    refused(bench, state)
    assert bench.settlement.decisions.take_effects() == []
    over = bench.turn()
    assert (over.effects, over.rows, over.counters) == ([Ack(1, tag)], {}, {"duplicate": 1})
    assert (bench.settlement.entries, bench.settlement.assignments.workers()) == ({}, set())


@pytest.mark.parametrize("state", [RowState.DISPATCHED, RowState.RETRY_PENDING, RowState.GONE])
def test_i3_a_message_that_another_daemon_has_in_hand_goes_back_and_is_not_sent(state: RowState) -> None:
    bench = Bench()
    tag = bench.deliver()
    bench.assign()
    refused(bench, state)
    assert bench.settlement.decisions.take_effects() == []
    over = bench.turn()
    assert (over.effects, over.rows, over.counters) == ([Requeue(1, tag)], {}, {"returned": 1})


@pytest.mark.parametrize("state", [RowState.RETURNED, RowState.DISPATCHED, RowState.RETRY_PENDING])
def test_i2_an_earlier_run_than_that_of_another_daemon_is_acked_and_not_sent(state: RowState) -> None:
    bench = Bench()
    tag = bench.deliver()
    bench.assign()
    refused(bench, state, attempt=2)
    assert bench.settlement.decisions.take_effects() == []
    over = bench.turn()
    assert (over.effects, over.rows, over.counters) == ([Ack(1, tag)], {}, {"duplicate": 1})


def test_what_was_decided_while_the_claim_was_under_way_is_dropped() -> None:
    bench = Bench()
    tag = bench.deliver()
    bench.assign()
    bench.settlement.decisions.take()
    bench.settlement.greeted(W0, [])
    bench.assign()
    bench.settlement.refused(key_of("m"), Row(key_of("m"), 1, 1, RowState.DONE, 0, 1, 0.0, "m", b"", 99))
    assert bench.settlement.decisions.take_effects() == []
    over = bench.turn()
    assert (over.effects, over.rows) == ([Ack(1, tag)], {})


def a_claim_that_was_refused_is_sent(patch: Patch) -> None:
    patch.setattr(Settlement, "refused", lambda self, key, row: None)


def what_follows_a_refused_claim_is_done(patch: Patch) -> None:
    patch.setattr(UnitOfWork, "revoke", lambda self, key, token: None)


def a_message_that_another_daemon_runs_is_acked(patch: Patch) -> None:
    def mutant(self: Settlement, key: bytes, row: Row) -> None:
        refused(self, key, msgspec.structs.replace(row, state=RowState.DONE))

    refused = Settlement.refused
    patch.setattr(Settlement, "refused", mutant)


def a_message_that_another_daemon_has_settled_is_given_back(patch: Patch) -> None:
    def mutant(self: Settlement, key: bytes, row: Row) -> None:
        refused(self, key, msgspec.structs.replace(row, state=RowState.DISPATCHED))

    refused = Settlement.refused
    patch.setattr(Settlement, "refused", mutant)


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
    a_message_that_another_daemon_has_settled_is_given_back: Laws((b"a",), workers=1, faults=1, rival=True),
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
