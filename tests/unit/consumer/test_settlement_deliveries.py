"""What a delivery means: the decision table, line by line, and what lies beside it."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.consumer.settlement.messages import Failure, Phase
from supervisor.ledger.base import RowState
from supervisor.link.frames import Run
from supervisor.logs.events import Event
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import KILLED, QUEUE, W0, W1, Bench, key_of

ACK, RUN = "ack", "run"
SETTLED = (RowState.DONE, RowState.RETRY, RowState.DEAD, RowState.PARKED)

TABLE = [
    # the ledger's row, the delivery, the action
    (None, (1, 1), RUN),
    (None, (1, 4), RUN),  # a copy whose row was evicted
    (None, (3, 1), RUN),
    *((((2, 3), state), (1, 1), ACK) for state in (*SETTLED, RowState.RETURNED)),
    *((((2, 3), state), (1, 9), ACK) for state in SETTLED),
    *((((2, 3), state), (2, 2), ACK) for state in (*SETTLED, RowState.RETURNED)),
    *((((2, 3), state), (2, 3), ACK) for state in SETTLED),
    (((2, 3), RowState.RETURNED), (2, 3), RUN),
    (((2, 3), RowState.RETURNED), (2, 4), RUN),
    (((2, 3), RowState.RETRY), (2, 4), RUN),
    (((2, 3), RowState.RETRY), (2, 7), RUN),
    (((2, 3), RowState.DONE), (2, 4), ACK),
    *((((2, 3), state), (3, 1), RUN) for state in SETTLED),
    *((((2, 3), state), (5, 2), RUN) for state in SETTLED),
]


@pytest.mark.parametrize(("row", "delivery", "action"), TABLE, ids=str)
@pytest.mark.parametrize("redelivered", [False, True], ids=["first", "redelivered"])
def test_the_ledger_decides_whatever_the_broker_says_about_redelivery(
    row: tuple[tuple[int, int], RowState] | None, delivery: tuple[int, int], action: str, redelivered: bool
) -> None:
    bench = Bench()
    if row:
        bench.has_row(row[1], *row[0])
    tag = bench.deliver(run=delivery, redelivered=redelivered)
    if action == ACK:
        assert bench.acked() == [tag]
        assert bench.empty
        assert bench.counters["duplicate"] == 1
        assert bench.said() == [Event.MESSAGE_DUPLICATE]
    else:
        bench.assign()
        assert bench.acked() == []
        assert bench.runs() == [delivery]
        assert bench.state() is RowState.DISPATCHED


def test_i1_dispatched_is_in_the_commit_of_the_turn_that_sends() -> None:
    bench = Bench()
    bench.deliver()
    bench.assign(W1)
    turn = bench.turn()
    (row,) = turn.rows.values()
    assert (row.state, row.slot, row.generation, row.at_s) == (RowState.DISPATCHED, 1, 8, 1000.0)
    assert bench.runs() == [(1, 1)]


def test_i3_a_delivery_of_what_a_live_worker_has_is_attached_and_settled_with_the_run() -> None:
    bench = Bench()
    first, run = bench.begun()
    second = bench.deliver(redelivered=True)
    assert bench.acked() == []
    assert bench.runs() == []
    bench.ends(run)
    assert bench.acked() == [first, second]
    assert bench.state() is RowState.DONE
    assert bench.empty


def test_i6_of_two_tags_of_one_run_one_is_done_and_the_other_a_duplicate() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.deliver(redelivered=True)
    bench.ends(run)
    bench.turn()
    assert bench.counters == {"delivered": 2, "done": 1, "duplicate": 1}


def test_i4_what_a_dead_worker_had_not_begun_is_run_again_uncharged() -> None:
    bench = Bench()
    bench.begun()
    bench.settlement.died(W0, None, KILLED)
    bench.assign(W1)
    bench.turn()
    assert bench.runs() == [(1, 1)]
    assert bench.counters.get("failed") is None


def test_i5_what_a_dead_worker_was_at_is_in_doubt() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.settlement.died(W0, run, KILLED)
    bench.turn()
    assert bench.state() is RowState.RETRY_PENDING
    assert bench.runs() == []


PENDING = (RowState.RETRY_PENDING, RowState.DEAD_PENDING, RowState.PARKED_PENDING)
NOTE = msgspec.msgpack.encode(Failure("failed", "ValueError", at_s=5.0))


@pytest.mark.parametrize("state", PENDING)
def test_i1_a_pending_message_is_never_run_its_copy_is_published_and_then_it_is_acked(state: RowState) -> None:
    bench = Bench()
    bench.has_row(state, note=NOTE)
    bench.restart()
    tag = bench.deliver(redelivered=True)
    assert bench.acked() == []
    (copy,) = bench.published()
    assert not bench.settlement.assignments.waiting
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]
    assert bench.state() == state.removesuffix("_pending")
    assert bench.empty


@pytest.mark.parametrize("state", PENDING)
def test_a_pending_message_delivered_again_while_its_copy_is_under_way_is_published_once(state: RowState) -> None:
    bench = Bench()
    bench.has_row(state, note=NOTE)
    bench.restart()
    first = bench.deliver(redelivered=True)
    bench.turn()
    (copy,) = bench.published()
    second = bench.deliver(redelivered=True)
    assert bench.acked() == []
    assert bench.published() == []
    bench.confirmed(copy.token)
    assert bench.acked() == [first, second]


def test_the_retry_copy_proves_its_own_confirm() -> None:
    bench = Bench()
    tag, run = bench.begun()
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    (copy,) = bench.published()
    bench.deliver(run=(1, 2))
    bench.assign()
    assert bench.acked() == [tag]
    assert bench.runs() == [(1, 2)]
    bench.confirmed(copy.token)  # late: no message waits for it any more
    assert bench.turn().effects == []


def test_the_retry_copy_may_come_before_the_original_after_a_restart() -> None:
    bench = Bench()
    bench.has_row(RowState.RETRY_PENDING, note=NOTE)
    bench.restart()
    bench.deliver(run=(1, 2))
    bench.assign()
    bench.turn()
    assert bench.runs() == [(1, 2)]
    original = bench.deliver(redelivered=True)
    assert bench.acked() == [original]


def test_i3_a_newer_run_waits_until_the_older_is_over() -> None:
    bench = Bench()
    tag, run = bench.begun()
    newer = bench.deliver(run=(2, 1))
    assert bench.acked() == []
    assert not bench.settlement.assignments.waiting
    bench.ends(run)
    bench.assign()
    assert bench.acked() == [tag]
    assert bench.runs() == [(2, 1)]
    assert bench.entry().tags == [(1, newer)]


def test_an_older_run_is_stale_while_a_newer_is_under_way() -> None:
    bench = Bench()
    bench.begun(run=(1, 2))
    stale = bench.deliver()
    assert bench.acked() == [stale]
    assert bench.entry().phase is Phase.OWNED


def test_an_open_row_that_no_slot_remembers_is_in_doubt_not_run_blindly() -> None:
    bench = Bench()
    bench.has_row(RowState.DISPATCHED)
    bench.deliver(redelivered=True)
    bench.turn()
    assert bench.state() is RowState.RETRY_PENDING
    assert not bench.settlement.assignments.waiting


def test_what_this_turn_decided_is_newer_than_the_ledger() -> None:
    bench = Bench()
    tag, run = bench.begun()
    bench.ends(run)
    again = bench.deliver(redelivered=True)
    assert bench.acked() == [tag, again]
    assert bench.counters["duplicate"] == 1


def test_an_id_with_other_content_is_another_message_and_warned_about() -> None:
    bench = Bench()
    bench.has_row(RowState.DONE)
    bench.deliver(body=b"other")
    bench.assign()
    bench.turn()
    assert bench.runs() == [(1, 1)]
    assert Event.MESSAGE_ID_REUSED in bench.said()
    assert bench.state() is RowState.DONE
    assert bench.rows[key_of("m", b"other")].state is RowState.DISPATCHED


def test_the_handler_sees_the_original_of_a_copy() -> None:
    bench = Bench()
    bench.begun(run=(1, 2))
    (frame,) = bench.sent()
    assert isinstance(frame, Run)
    assert frame.properties.headers is None
    assert frame.routing_key == QUEUE


# ---- an id sent again on purpose ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", SETTLED)
def test_with_dedupe_redelivery_a_first_delivery_of_a_settled_id_is_run(state: RowState) -> None:
    bench = Bench(dedupe="redelivery")
    bench.has_row(state)
    bench.deliver()
    bench.assign()
    bench.turn()
    assert bench.runs() == [(1, 1)]


def test_with_dedupe_redelivery_a_repetition_is_a_duplicate() -> None:
    bench = Bench(dedupe="redelivery")
    bench.has_row(RowState.DONE)
    tag = bench.deliver(redelivered=True)
    assert bench.acked() == [tag]


def test_with_dedupe_redelivery_an_order_survives_its_return() -> None:
    """Given back, it comes as redelivered: the row must not say any more that it was done."""
    bench = Bench(dedupe="redelivery")
    bench.has_row(RowState.DONE)
    bench.deliver()
    bench.settlement.drain()
    bench.turn()
    assert bench.state() is RowState.RETURNED
    bench.settlement.accepting = True
    bench.deliver(redelivered=True)
    bench.assign()
    bench.turn()
    assert bench.runs() == [(1, 1)]


def test_with_dedupe_redelivery_an_order_that_comes_during_a_run_waits_for_its_end() -> None:
    bench = Bench(dedupe="redelivery")
    tag, run = bench.begun()
    bench.deliver()
    bench.ends(run)
    bench.assign()
    assert bench.acked() == [tag]
    assert bench.runs() == [(1, 1)]
