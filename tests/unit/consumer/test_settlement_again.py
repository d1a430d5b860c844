"""Messages that handlers publish again, publications that are lost for ever, messages that never come back."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.brokers import copy_headers
from supervisor.consumer.observe.traces import trace_of
from supervisor.consumer.settlement.messages import Failure
from supervisor.consumer.settlement.missing import MISSING_S, TAKEN
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.ledger.base import RowState
from supervisor.link.frames import Published, RunId
from supervisor.logs.events import Event
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import QUEUE, RAISED, W0, Bench

# ---- the same message again -----------------------------------------------------------------------------------------


def test_a_message_that_is_sent_again_while_it_runs_is_told_as_a_duplicate_once_it_is_acked() -> None:
    bench = Bench()
    first, run = bench.begun()
    again = bench.deliver()
    assert bench.turn().said == []
    bench.ends(run)
    assert sorted(bench.acked()) == [first, again]
    (said,) = bench.last.said
    assert said.event is Event.MESSAGE_DUPLICATE
    assert "while this run of it was under way" in said.text
    assert bench.counters["duplicate"] == 1


def test_a_redelivery_after_a_connection_loss_is_no_duplicate() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.lose_connection()
    tag = bench.deliver(redelivered=True)
    bench.ends(run)
    assert bench.acked() == [tag]
    assert bench.said() == []


def republished(bench: Bench, run: RunId, **changes: object) -> Properties:
    out = Publication("", QUEUE, Properties(message_id="m", headers={"step": 2}), b"")
    bench.settlement.publications.publish_for(W0, run, [msgspec.structs.replace(out, **changes)])
    bench.turn()
    (outgoing,) = bench.published()
    return outgoing.properties


@pytest.mark.parametrize("run", [(1, 1), (3, 2)])
def test_a_message_that_its_handler_puts_back_into_its_queue_is_the_next_round(run: tuple[int, int]) -> None:
    bench = Bench()
    first, begun = bench.begun(run=run)
    headers = republished(bench, begun).headers or {}
    assert headers == {"step": 2, copy_headers.QUEUE: QUEUE, copy_headers.ROUND: run[0] + 1, copy_headers.ATTEMPT: 1}
    bench.deliver(run=(run[0] + 1, 1))  # before the run that has published it is over
    bench.ends(begun)
    assert bench.acked() == [first]
    bench.assign()
    bench.turn()
    assert bench.runs() == [(run[0] + 1, 1)]
    assert Event.MESSAGE_DUPLICATE not in bench.said()


@pytest.mark.parametrize(
    "changes",
    [
        {"exchange": "topic"},
        {"routing_key": "other"},
        {"properties": Properties(message_id="another")},
        {"properties": Properties()},
    ],
    ids=str,
)
def test_anything_else_that_a_handler_publishes_is_left_as_it_is(changes: dict[str, object]) -> None:
    bench = Bench()
    _, run = bench.begun()
    assert copy_headers.ROUND not in (republished(bench, run, **changes).headers or {})


# ---- publications that are lost again and again --------------------------------------------------------------------


def publishing(timeout_s: float = 30.0) -> tuple[Bench, RunId, int]:
    bench = Bench()
    bench.settlement = Settlement(bench.pool, "host", publish_timeout_s=timeout_s)
    bench.settlement.decisions.now_s = 1000.0
    _, run = bench.begun()
    bench.settlement.publications.publish_for(W0, run, [Publication("", "audit", Properties(), b"")])
    bench.turn()
    return bench, run, bench.published()[0].token


def test_a_publication_that_is_lost_for_longer_than_its_time_fails_its_run() -> None:
    bench, run, token = publishing()
    for now_s in (1000.0, 1020.0, 1029.0):
        bench.settlement.decisions.now_s = now_s
        bench.settlement.unpublished(token, "the channel was closed", lost=True)
        bench.settlement.publications.publish_again(token)
        bench.turn()
        assert bench.sent() == []
    bench.settlement.decisions.now_s = 1030.0
    bench.settlement.unpublished(token, "the channel was closed", lost=True)
    bench.turn()
    assert bench.sent() == [Published(run, False, "the channel was closed")]
    assert bench.later() == []


def test_a_confirm_that_comes_after_the_run_has_failed_has_no_effect() -> None:
    bench, run, token = publishing(timeout_s=0.0)
    bench.settlement.unpublished(token, "the channel was closed", lost=True)
    bench.turn()
    bench.confirmed(token)
    bench.settlement.publications.publish_again(token)
    assert bench.turn().effects == []
    bench.ends(run, OutcomeKind.PUBLISH_FAILED)
    bench.turn()
    assert bench.state() is RowState.RETRY_PENDING


def test_while_there_is_no_broker_no_time_runs_for_publications() -> None:
    bench, _, token = publishing()
    bench.settlement.decisions.now_s = 5000.0
    bench.lose_connection()
    bench.turn()
    bench.settlement.decisions.now_s = 5029.0
    bench.settlement.publications.publish_again(token)
    bench.settlement.unpublished(token, "the channel was closed", lost=True)
    bench.turn()
    assert bench.sent() == []
    assert bench.later() == [token]


# ---- messages that never come back ---------------------------------------------------------------------------------


def failed_without_its_message(kind: OutcomeKind = OutcomeKind.FAILED) -> Bench:
    """A run has failed while no consumer was there; the next one knows of it, and has not got the message."""
    bench = Bench()
    _, run = bench.begun()
    bench.restart()
    bench.ends(run, kind)
    bench.turn()
    return bench


def emptied(bench: Bench, after_s: float) -> None:
    """The queue is empty, and still is some seconds later."""
    bench.settlement.queue_is_empty()
    bench.settlement.decisions.now_s += after_s
    bench.settlement.queue_is_empty()
    bench.turn()


def test_a_failed_message_that_is_in_its_queue_no_more_is_told_and_forgotten() -> None:
    bench = failed_without_its_message()
    emptied(bench, MISSING_S - 1)
    assert (bench.said(), bench.empty) == ([], False)
    emptied(bench, 1)
    assert bench.said() == [Event.MESSAGE_GONE]
    assert (bench.state(), bench.empty) == (RowState.GONE, True)
    bench.restart()
    assert bench.empty


@pytest.mark.parametrize(
    ("kind", "pending"), [(OutcomeKind.FAILED, RowState.RETRY_PENDING), (OutcomeKind.REJECT, RowState.DEAD_PENDING)]
)
def test_one_that_comes_after_all_gets_the_copy_that_was_decided(kind: OutcomeKind, pending: RowState) -> None:
    bench = failed_without_its_message(kind)
    emptied(bench, MISSING_S)
    tag = bench.deliver(redelivered=True)
    bench.turn()
    assert bench.state() is pending
    assert Event.MESSAGE_FAILED not in bench.said()
    assert not bench.settlement.assignments.waiting
    (copy,) = bench.published()
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]


def test_what_a_reconnect_may_bring_back_is_not_missing_yet() -> None:
    bench = failed_without_its_message()
    bench.settlement.queue_is_empty()
    bench.settlement.decisions.now_s += MISSING_S
    bench.lose_connection()
    bench.settlement.queue_is_empty()
    bench.turn()
    assert not bench.empty


def test_only_what_was_decided_can_be_given_up() -> None:
    bench = Bench()
    bench.begun()
    with pytest.raises(ValueError, match="decided"):
        bench.settlement.give_up_missing(bench.entry(), TAKEN)


def test_the_note_of_what_is_gone_says_what_was_decided() -> None:
    bench = failed_without_its_message()
    emptied(bench, MISSING_S)
    note = msgspec.msgpack.decode(next(iter(bench.rows.values())).note, type=Failure)
    assert (note.pending, note.cause) == (RowState.RETRY_PENDING, RAISED.cause)


# ---- delays that are asked for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked_s", "delay_s"), [(0.0, 5.0), (77.0, 120.0), (30 * 86400.0, 7 * 86400.0)])
def test_a_delay_is_logged_and_recorded_as_it_will_be(asked_s: float, delay_s: float) -> None:
    bench = Bench(retry_delays_s=(3.0,))
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.RETRY, msgspec.structs.replace(RAISED, delay_s=asked_s))
    bench.turn()
    (trace,) = [trace_of("p", row) for row in bench.rows.values()]
    assert trace.failure is not None
    assert trace.failure.delay_s == delay_s
    bench.confirmed(bench.published()[0].token)
    bench.turn()
    (said,) = bench.last.said
    assert (said.event, said.fields["delay_s"]) == (Event.MESSAGE_RETRIED, delay_s)
