"""Messages without an id: what is recognised after a connection loss, what waits, what is run."""

from __future__ import annotations

import pytest

from supervisor.consumer.settlement.messages import Phase
from supervisor.ledger.base import RowState
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import KILLED, W0, Bench


def test_after_a_loss_the_like_of_a_running_message_without_an_id_is_that_message() -> None:
    bench = Bench()
    _, run = bench.begun(None)
    bench.lose_connection()
    tag = bench.deliver(None, redelivered=True)
    assert bench.settlement.entries[run.key].tags == [(2, tag)]
    assert not bench.settlement.assignments.waiting
    bench.ends(run)
    assert bench.acked() == [tag]


def test_after_a_loss_the_like_of_a_finished_message_without_an_id_is_acked() -> None:
    bench = Bench()
    _, run = bench.begun(None)
    bench.lose_connection()
    bench.ends(run)
    tag = bench.deliver(None, redelivered=True)
    assert bench.acked() == [tag]
    assert bench.counters["duplicate"] == 1


@pytest.mark.parametrize("begun", [True, False])
def test_after_a_loss_the_like_of_one_whose_ack_waited_for_the_disk_is_acked(begun: bool) -> None:
    """Its ack certainly never left, whether its commit was under way or still to come."""
    bench = Bench()
    _, run = bench.begun(None)
    bench.ends(run)
    if begun:
        bench.commit()
    bench.lose_connection()
    assert bench.acked() == []
    again = bench.deliver(None, redelivered=True)
    assert bench.acked() == [again]
    assert bench.settlement.assignments.waiting == {}


def test_an_ack_that_waited_through_two_losses_is_expected_back_once() -> None:
    """Twice, and another message like it would be taken for it: lost."""
    bench = Bench()
    _, run = bench.begun(None)
    bench.ends(run)
    bench.lose_connection()
    bench.lose_connection()
    bench.deliver(None, redelivered=True)
    bench.deliver(None, redelivered=True)
    assert len(bench.settlement.assignments.waiting) == 1


def test_the_ack_of_a_repetition_that_waited_for_the_disk_is_expected_back_too() -> None:
    bench = Bench()
    _, run = bench.begun(None)
    bench.lose_connection()
    bench.ends(run)
    bench.turn()
    bench.deliver(None, redelivered=True)
    bench.lose_connection()
    again = bench.deliver(None, redelivered=True)
    assert bench.acked() == [again]


def test_each_lost_tag_is_met_once() -> None:
    bench = Bench()
    _, run = bench.begun(None)
    bench.lose_connection()
    bench.ends(run)
    bench.deliver(None, redelivered=True)
    bench.deliver(None, redelivered=True)
    assert len(bench.settlement.assignments.waiting) == 1


@pytest.mark.parametrize("why", ["not redelivered", "other content", "too late", "the queue is shared", "given up"])
def test_what_nothing_proves_is_run(why: str) -> None:
    bench = Bench()
    _, run = bench.begun(None)
    if why == "given up":
        bench.lose_connection()
        bench.settlement.died(W0, None, KILLED)
    else:
        bench.lose_connection()
        bench.ends(run)
    bench.settlement.decisions.now_s += 301 if why == "too late" else 0
    bench.settlement.content_matches.queue_is_ours = why != "the queue is shared"
    bench.deliver(None, redelivered=why != "not redelivered", body=b"other" if why == "other content" else b"")
    (entry,) = bench.settlement.assignments.waiting.values()
    assert entry.maybe_duplicate is (why != "not redelivered")


def test_a_first_copy_of_a_message_without_an_id_gets_one_and_is_then_known() -> None:
    bench = Bench()
    _, run = bench.begun(None)
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    (copy,) = bench.published()
    id = copy.properties.message_id
    assert id
    tag = bench.deliver(id, run=(1, 2))
    bench.assign()
    assert bench.acked() == [1]
    assert bench.settlement.entries[run.key].tags == [(1, tag)]
    assert not bench.settlement.entries[run.key].maybe_duplicate


def test_with_missing_id_dead_letter_it_is_never_run() -> None:
    bench = Bench(missing_id="dead_letter")
    tag = bench.deliver(None)
    bench.turn()
    (copy,) = bench.published()
    assert copy.routing_key.endswith(".dead")
    assert not bench.settlement.assignments.waiting
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]


@pytest.mark.parametrize("kind", [OutcomeKind.FAILED, OutcomeKind.IN_DOUBT, OutcomeKind.REJECT])
def test_a_run_without_an_id_that_fails_after_a_restart_leaves_nothing_open(kind: OutcomeKind) -> None:
    """Its original comes back under another name: a copy that waits for its body would wait for ever."""
    bench = Bench()
    _, run = bench.begun(None)
    bench.restart()
    assert bench.settlement.assignments.load(W0) == 1
    bench.ends(run, kind)
    bench.turn()
    assert bench.empty
    assert bench.rows[run.key].state is RowState.RETURNED
    assert bench.counters["failed"] == 1


def test_a_pending_row_without_an_id_is_closed_at_the_restart() -> None:
    bench = Bench()
    _, run = bench.begun(None)
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    (copy,) = bench.published()
    bench.restart()
    bench.turn()
    assert bench.empty
    assert not bench.rows[run.key].state.open
    bench.deliver(copy.properties.message_id, run=(1, 2))  # had the broker taken it after all
    bench.assign()
    bench.turn()
    assert bench.runs() == [(1, 2)]


def test_a_copy_of_a_message_without_an_id_is_recovered_like_any_other() -> None:
    bench = Bench()
    given = f"preforkd-{7:032x}"
    _, run = bench.begun(given, run=(1, 2))
    bench.restart()
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    entry = bench.settlement.entries[run.key]
    assert (entry.phase, entry.pending) == (Phase.COPYING, RowState.RETRY_PENDING)


def test_after_a_restart_the_like_of_what_a_worker_has_waits_until_that_is_over() -> None:
    """Or the worker would run it later than its repetition, and as if it were new."""
    bench = Bench()
    _, run = bench.begun(None)
    bench.restart()
    bench.deliver(None, redelivered=True)
    assert not bench.settlement.assignments.waiting
    bench.settlement.greeted(W0, [run])
    assert not bench.settlement.assignments.waiting
    bench.ends(run)
    (entry,) = bench.settlement.assignments.waiting.values()
    assert entry.maybe_duplicate


@pytest.mark.parametrize("end", ["not held", "returned", "died", "died running"])
def test_what_waited_for_a_run_is_run_however_that_one_ended(end: str) -> None:
    bench = Bench()
    _, run = bench.begun(None)
    bench.restart()
    bench.deliver(None, redelivered=True)
    if end == "not held":
        bench.settlement.greeted(W0, [])
    elif end == "returned":
        bench.settlement.returned(W0, [run])
    else:
        bench.settlement.died(W0, run if end == "died running" else None, KILLED)
    (entry,) = bench.settlement.assignments.waiting.values()
    assert (entry.maybe_duplicate, entry.attempt, run.key in bench.settlement.entries) == (True, 1, False)


def test_on_a_shared_queue_the_like_of_what_a_worker_has_waits_too() -> None:
    bench = Bench()
    _, run = bench.begun(None)
    bench.settlement.content_matches.queue_is_ours = False
    bench.lose_connection()
    tag = bench.deliver(None, redelivered=True)
    assert not bench.settlement.assignments.waiting
    bench.ends(run)
    bench.assign()
    assert bench.acked() == []
    (entry,) = bench.settlement.entries.values()
    assert (entry.maybe_duplicate, entry.tags) == (True, [(2, tag)])


@pytest.mark.parametrize("why", ["not redelivered", "other content", "an id", "an id of the other"])
def test_what_cannot_be_a_repetition_waits_for_nothing(why: str) -> None:
    bench = Bench()
    bench.begun("m" if why == "an id of the other" else None)
    bench.restart()
    id, body = "n" if why == "an id" else None, b"other" if why == "other content" else b""
    bench.deliver(id, redelivered=why != "not redelivered", body=body)
    assert len(bench.settlement.assignments.waiting) == 1


def test_the_like_of_a_message_that_has_its_tag_is_another_one() -> None:
    bench = Bench()
    bench.begun(None)
    bench.deliver(None, redelivered=True)
    assert len(bench.settlement.assignments.waiting) == 1


def test_what_waits_for_a_run_goes_back_when_the_pool_drains() -> None:
    bench = Bench()
    bench.begun(None)
    bench.restart()
    tag = bench.deliver(None, redelivered=True)
    bench.settlement.drain()
    bench.turn()
    assert bench.returned() == [tag]


def test_expectations_end_with_their_window() -> None:
    bench = Bench()
    bench.begun(None)
    bench.lose_connection()
    bench.settlement.decisions.now_s += 301
    bench.lose_connection()
    assert bench.settlement.content_matches._expected == {}


def test_the_delivery_of_a_turn_that_loses_its_connection_is_not_given_back_twice() -> None:
    bench = Bench()
    bench.deliver()
    bench.lose_connection()
    bench.settlement.drain()
    bench.turn()
    assert bench.returned() == []
    assert bench.counters == {"delivered": 1, "dropped": 1}
