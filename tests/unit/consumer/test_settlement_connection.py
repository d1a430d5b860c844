"""Connection loss in every phase, tags of several epochs, drain and pause."""

from __future__ import annotations

from supervisor.consumer.settlement.unit_of_work import Ack
from supervisor.ledger.base import RowState
from supervisor.link.frames import Published
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import KILLED, W0, Bench

# ---- connection loss ------------------------------------------------------------------------------------------------


def test_a_waiting_message_is_forgotten_with_its_connection() -> None:
    bench = Bench()
    bench.deliver()
    bench.lose_connection()
    bench.turn()
    assert bench.empty
    assert bench.returned() == []
    assert bench.counters == {"delivered": 1, "dropped": 1}


def test_a_tag_of_a_lost_epoch_is_dropped() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.lose_connection()
    bench.ends(run)
    assert bench.acked() == []
    assert bench.state() is RowState.DONE
    again = bench.deliver(redelivered=True)
    assert bench.acked() == [again]


def test_a_running_message_is_settled_with_the_tag_of_the_new_epoch() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.lose_connection()
    tag = bench.deliver(redelivered=True)
    bench.ends(run)
    bench.turn()
    assert [effect for effect in bench.last.effects if isinstance(effect, Ack)] == [Ack(2, tag)]


def test_a_copy_under_way_when_the_consuming_channel_closed_is_not_published_again() -> None:
    """Its connection lives: it gets its fate (`brokers.base.Broker.publish`)."""
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    (copy,) = bench.published()
    bench.lose_connection()
    bench.turn()
    assert (bench.published(), bench.later()) == ([], [])
    tag = bench.deliver(redelivered=True)
    bench.turn()
    assert bench.published() == []
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]
    assert bench.empty


def test_the_message_of_a_copy_that_was_confirmed_while_it_was_away_is_a_duplicate() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    (copy,) = bench.published()
    bench.lose_connection()
    bench.confirmed(copy.token)
    bench.turn()
    assert (bench.state(), bench.empty) == (RowState.RETRY, True)
    again = bench.deliver(redelivered=True)
    assert bench.acked() == [again]


def test_a_copy_decided_in_the_turn_of_a_connection_loss_is_published_once() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.FAILED)
    bench.lose_connection()
    bench.turn()
    assert (len(bench.published()), bench.later()) == (1, [])


def test_a_handlers_publish_under_way_when_the_consuming_channel_closed_counts() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.settlement.publications.publish_for(W0, run, [Publication("", "audit", Properties(), b"")])
    bench.turn()
    (out,) = bench.published()
    bench.lose_connection()
    bench.turn()
    assert (bench.published(), bench.later()) == ([], [])
    bench.confirmed(out.token)
    bench.turn()
    assert bench.sent() == [Published(run, True, "")]


def test_a_publication_that_was_lost_is_scheduled_once_whatever_happens_to_the_consuming_connection() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    (copy,) = bench.published()
    bench.settlement.unpublished(copy.token, "gone", lost=True)
    bench.lose_connection()
    bench.lose_connection()
    bench.turn()
    assert bench.later() == [copy.token]
    bench.settlement.publications.publish_again(copy.token)
    bench.turn()
    assert bench.published() == [copy]


def test_a_newer_run_that_waits_is_dropped_with_its_connection() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.deliver(run=(2, 1))
    bench.lose_connection()
    bench.ends(run)
    bench.turn()
    assert bench.empty
    assert bench.counters["dropped"] == 2


def test_i4_a_worker_death_after_a_connection_loss_leaves_the_rest_to_the_broker() -> None:
    bench = Bench()
    bench.begun()
    bench.lose_connection()
    bench.settlement.died(W0, None, KILLED)
    bench.turn()
    assert (bench.empty, bench.state()) == (True, RowState.RETURNED)


# ---- drain and pause ------------------------------------------------------------------------------------------------


def test_a_drain_returns_what_waits_and_what_still_comes_once() -> None:
    bench = Bench()
    waiting = bench.deliver("a")
    bench.settlement.drain()
    bench.turn()
    assert bench.returned() == [waiting]
    late = bench.deliver("b")
    bench.turn()
    assert bench.returned() == [late]
    assert bench.counters == {"delivered": 2, "returned": 2}
    assert bench.empty


def test_a_drain_leaves_running_messages_to_their_end() -> None:
    bench = Bench()
    tag, run = bench.begun()
    bench.settlement.drain()
    bench.turn()
    assert bench.returned() == []
    bench.ends(run)
    assert bench.acked() == [tag]


def test_a_drain_does_not_sit_on_a_newer_run_that_waits() -> None:
    bench = Bench()
    bench.begun()
    newer = bench.deliver(run=(2, 1))
    bench.settlement.drain()
    bench.turn()
    assert bench.returned() == [newer]
    assert bench.entry().later == []


def test_what_workers_return_during_a_drain_goes_back_to_the_queue() -> None:
    bench = Bench()
    tag, run = bench.begun()
    bench.settlement.drain()
    bench.settlement.returned(W0, [run])
    bench.turn()
    assert bench.returned() == [tag]
    assert (bench.empty, bench.state()) == (True, RowState.RETURNED)


def test_after_a_pause_messages_are_taken_again() -> None:
    bench = Bench()
    bench.settlement.drain()
    bench.settlement.accepting = True
    bench.deliver()
    assert len(bench.settlement.assignments.waiting) == 1
