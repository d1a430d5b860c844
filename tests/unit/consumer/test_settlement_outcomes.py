"""What outcomes, deaths, greetings and publications come to."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.brokers import copy_headers
from supervisor.brokers.base import Outgoing
from supervisor.consumer.settlement.messages import Failure, Phase
from supervisor.consumer.settlement.refused_copies import HOPELESS_AFTER
from supervisor.ledger.base import RowState
from supervisor.link.frames import Published, RunId
from supervisor.logs.events import Event
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import KILLED, QUEUE, RAISED, W0, W1, Bench, key_of

FAILURES = (OutcomeKind.FAILED, OutcomeKind.RETRY, OutcomeKind.SOFT_TIMEOUT, OutcomeKind.PUBLISH_FAILED)
NOTES = [Publication("", "audit", Properties(), b"1"), Publication("x", "audit", Properties(), b"2")]


def test_i1_done_is_durable_in_the_turn_that_acks() -> None:
    bench = Bench()
    tag, run = bench.begun()
    bench.ends(run)
    assert bench.acked() == [tag]
    assert bench.last.rows[run.key].state is RowState.DONE
    assert bench.counters["done"] == 1
    assert bench.empty


@pytest.mark.parametrize("kind", FAILURES)
def test_i1_a_failed_run_is_acked_after_the_confirm_of_its_retry_copy(kind: OutcomeKind) -> None:
    bench = Bench(retry_delays_s=(3.0, 9.0))
    tag, run = bench.begun()
    bench.ends(run, kind)
    assert bench.acked() == []
    assert bench.state() is RowState.RETRY_PENDING
    (copy,) = bench.published()
    assert (copy.delay_s, copy.routing_key, copy_headers.ATTEMPT in (copy.properties.headers or {})) == (
        3.0,
        QUEUE,
        True,
    )
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]
    assert bench.state() is RowState.RETRY
    assert bench.counters == {"delivered": 1, "failed": 1, "published": 1, "retried": 1}
    assert bench.empty


@pytest.mark.parametrize("kind", FAILURES)
def test_the_last_attempt_goes_to_the_dead_letters(kind: OutcomeKind) -> None:
    bench = Bench(max_attempts=3)
    tag, run = bench.begun(run=(2, 3))
    bench.ends(run, kind)
    bench.turn()
    assert bench.state() is RowState.DEAD_PENDING
    (copy,) = bench.published()
    assert copy.routing_key == f"{QUEUE}.dead"
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]
    assert bench.state() is RowState.DEAD
    assert Event.MESSAGE_DEAD in bench.said()


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 3.0), (2, 9.0), (3, 9.0), (4, 9.0)])
def test_the_last_retry_delay_repeats(attempt: int, delay_s: float) -> None:
    bench = Bench(retry_delays_s=(3.0, 9.0))
    _, run = bench.begun(run=(1, attempt))
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    assert bench.published()[0].delay_s == delay_s


def test_a_handler_chooses_its_delay() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.RETRY, msgspec.structs.replace(RAISED, delay_s=77.0))
    bench.turn()
    assert bench.published()[0].delay_s == 77.0


def test_a_rejected_message_is_dead_at_its_first_attempt() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.REJECT)
    bench.turn()
    assert bench.state() is RowState.DEAD_PENDING


def test_an_outcome_heard_twice_counts_once() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run)
    bench.ends(run)
    assert bench.acked() == [1]
    assert bench.counters["done"] == 1


STRANGE = [
    (W1, RunId(key_of("m"), 1, 1)),
    (W0, RunId(key_of("m"), 1, 2)),
    (W0, RunId(key_of("m"), 2, 1)),
    (W0, RunId(key_of("other"), 1, 1)),
]


@pytest.mark.parametrize(("worker", "run"), STRANGE, ids=str)
def test_an_outcome_of_a_run_that_is_not_this_workers_has_no_effect(worker: object, run: RunId) -> None:
    bench = Bench()
    bench.begun()
    bench.settlement.outcome(worker, run, OutcomeKind.DONE, RAISED)  # type: ignore[arg-type]
    assert bench.turn().rows == {}
    assert bench.entry().phase is Phase.OWNED


# ---- deaths ---------------------------------------------------------------------------------------------------------


def test_i4_only_the_running_one_is_charged() -> None:
    bench = Bench()
    runs = [bench.begun(id)[1] for id in ("a", "b", "c")]
    bench.settlement.died(W0, runs[1], KILLED)
    bench.turn()
    assert bench.state("b") is RowState.RETRY_PENDING
    assert [entry.id for entry in bench.settlement.assignments.waiting.values()] == ["a", "c"]
    assert bench.counters["failed"] == 1


def test_i4_without_proof_everything_a_dead_worker_had_is_in_doubt() -> None:
    bench = Bench()
    for id in ("a", "b"):
        bench.begun(id)
    bench.settlement.died(W0, None, KILLED, proof=False)
    bench.turn()
    assert (bench.state("a"), bench.state("b")) == (RowState.RETRY_PENDING, RowState.RETRY_PENDING)


def test_a_death_is_about_one_life_of_a_worker() -> None:
    bench = Bench()
    bench.begun()
    bench.settlement.died(W1, None, KILLED)
    assert bench.turn().rows == {}


def test_an_outcome_marked_before_the_death_wins() -> None:
    bench = Bench()
    tag, run = bench.begun()
    bench.ends(run)
    bench.settlement.died(W0, None, KILLED)
    assert bench.acked() == [tag]
    assert bench.state() is RowState.DONE


def test_i5_with_on_crash_park_a_crash_is_parked() -> None:
    bench = Bench(on_crash="park")
    tag, run = bench.begun()
    bench.settlement.died(W0, run, KILLED)
    bench.turn()
    (copy,) = bench.published()
    assert (bench.state(), copy.routing_key) == (RowState.PARKED_PENDING, f"{QUEUE}.parked")
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]
    assert (bench.state(), bench.counters["parked"]) == (RowState.PARKED, 1)
    assert Event.MESSAGE_PARKED in bench.said()


def test_a_left_over_mark_in_the_ring_is_a_crash_too() -> None:
    bench = Bench(on_crash="park")
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.IN_DOUBT, KILLED)
    bench.turn()
    assert bench.state() is RowState.PARKED_PENDING


def test_i5_the_record_of_a_failed_run_names_worker_and_cause() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.settlement.died(W0, run, KILLED)
    bench.turn()
    (failed,) = [saying for saying in bench.last.said if saying.event is Event.MESSAGE_FAILED]
    fields = failed.fields
    assert (fields["attempt"], fields["cause"], fields["worker"], fields["signal"]) == (1, "killed", "p/0", "SIGKILL")


# ---- workers that come back -----------------------------------------------------------------------------------------


def test_i3_an_owned_message_waits_for_hello_after_a_restart() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.restart()
    tag = bench.deliver(redelivered=True)
    assert bench.acked() == []
    assert not bench.settlement.assignments.waiting
    bench.settlement.greeted(W0, [run])
    assert not bench.settlement.assignments.waiting
    bench.ends(run)
    assert bench.acked() == [tag]


def test_what_a_hello_does_not_name_was_never_begun() -> None:
    bench = Bench()
    bench.begun()
    bench.restart()
    bench.deliver(redelivered=True)
    bench.settlement.greeted(W0, [])
    bench.assign(W1)
    bench.turn()
    assert bench.runs() == [(1, 1)]


def test_what_was_never_begun_and_has_not_come_back_is_forgotten_until_it_does() -> None:
    bench = Bench()
    bench.begun()
    bench.restart()
    bench.settlement.greeted(W0, [])
    bench.turn()
    assert bench.state() is RowState.RETURNED
    assert bench.empty
    bench.deliver(redelivered=True)
    bench.assign()
    bench.turn()
    assert bench.runs() == [(1, 1)]


def test_an_outcome_may_come_before_the_message_after_a_restart() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.restart()
    bench.ends(run)
    bench.turn()
    assert bench.state() is RowState.DONE
    tag = bench.deliver(redelivered=True)
    assert bench.acked() == [tag]


def test_a_failure_before_the_message_is_back_is_published_with_its_body_when_it_is() -> None:
    bench = Bench()
    _, run = bench.begun(body=b"text")
    bench.restart()
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    assert bench.published() == []
    bench.deliver(redelivered=True, body=b"text")
    bench.turn()
    assert bench.published()[0].body == b"text"


def test_what_a_worker_returns_is_given_to_another() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.settlement.returned(W1, [run])  # not its own
    assert not bench.settlement.assignments.waiting
    bench.settlement.returned(W0, [run])
    bench.assign(W1)
    bench.turn()
    assert bench.runs() == [(1, 1)]


# ---- what handlers publish ------------------------------------------------------------------------------------------


def publishing(bench: Bench) -> tuple[RunId, list[int]]:
    _, run = bench.begun()
    bench.settlement.publications.publish_for(W0, run, NOTES)
    bench.turn()
    return run, [outgoing.token for outgoing in bench.published()]


def test_a_run_is_published_once_the_broker_has_all_of_it() -> None:
    bench = Bench()
    run, (one, two) = publishing(bench)
    bench.confirmed(two)
    bench.turn()
    assert bench.sent() == []
    bench.confirmed(one)
    bench.turn()
    assert bench.sent() == [Published(run, True, "")]
    assert bench.counters["published"] == 2


def test_a_refused_publish_fails_the_run_at_once() -> None:
    bench = Bench()
    run, (one, two) = publishing(bench)
    bench.settlement.unpublished(one, "no queue", lost=False)
    bench.turn()
    assert bench.sent() == [Published(run, False, "no queue")]
    bench.confirmed(two)
    bench.turn()
    assert bench.sent() == []
    bench.ends(run, OutcomeKind.PUBLISH_FAILED)
    bench.turn()
    assert bench.state() is RowState.RETRY_PENDING


def test_a_publish_lost_with_its_connection_is_published_again() -> None:
    bench = Bench()
    run, (one, two) = publishing(bench)
    bench.settlement.unpublished(one, "connection lost", lost=True)
    bench.confirmed(two)
    bench.turn()
    assert (bench.later(), bench.sent()) == ([one], [])
    bench.settlement.publications.publish_again(one)
    bench.turn()
    assert [outgoing.token for outgoing in bench.published()] == [one]
    bench.confirmed(one)
    bench.turn()
    assert bench.sent() == [Published(run, True, "")]


def test_a_publish_told_twice_is_published_once_and_answered_again() -> None:
    bench = Bench()
    run, tokens = publishing(bench)
    bench.settlement.publications.publish_for(W0, run, NOTES)
    bench.turn()
    assert bench.published() == []
    for token in tokens:
        bench.confirmed(token)
    bench.settlement.publications.publish_for(W0, run, NOTES)
    bench.turn()
    assert bench.sent() == [Published(run, True, ""), Published(run, True, "")]


def test_a_worker_that_dies_while_publishing_was_running() -> None:
    bench = Bench()
    run, tokens = publishing(bench)
    bench.settlement.died(W0, run, KILLED)
    bench.turn()
    assert bench.state() is RowState.RETRY_PENDING
    for token in tokens:
        bench.confirmed(token)
        bench.settlement.publications.publish_again(token)
    assert bench.turn().effects == []


# ---- copies that the broker does not take ---------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [True, False])
def test_i1_a_copy_that_was_not_taken_is_published_again_and_nothing_acked(lost: bool) -> None:
    bench = Bench()
    tag, run = bench.begun()
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    (copy,) = bench.published()
    bench.settlement.unpublished(copy.token, "nack", lost)
    assert bench.acked() == []
    assert bench.later() == [copy.token]
    assert bench.said() == ([] if lost else [Event.COPY_REFUSED])
    bench.settlement.publications.publish_again(copy.token)
    bench.turn()
    assert bench.published() == [copy]
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]


def test_a_copy_that_has_followed_another_is_not_published_once_more_when_its_time_comes() -> None:
    bench = Bench()
    copies = []
    for id in ("a", "b"):
        _, run = bench.begun(id)
        bench.ends(run, OutcomeKind.REJECT)
        bench.turn()
        copies += bench.published()
        bench.settlement.unpublished(copies[-1].token, "nack", lost=False)
        bench.turn()
    first, second = copies
    bench.settlement.publications.publish_again(first.token)
    bench.confirmed(first.token)
    bench.turn()
    assert [copy.token for copy in bench.published()] == [first.token, second.token]
    bench.settlement.publications.publish_again(second.token)
    bench.turn()
    assert bench.published() == []


def refused_for_good(bench: Bench, kind: OutcomeKind, times: int) -> Outgoing:
    """The copy of a failed message, which the broker refused so often for what it is; as it is tried the next time."""
    _, run = bench.begun()
    bench.ends(run, kind)
    bench.turn()
    (copy,) = bench.published()
    for _ in range(times):
        bench.settlement.unpublished(copy.token, "message size 5 is larger", lost=False, for_good=True)
        bench.settlement.publications.publish_again(copy.token)
        bench.turn()
        (copy,) = bench.published()
    return copy


def test_a_dead_letter_that_is_refused_for_what_it_is_goes_on_without_the_headers_of_its_message() -> None:
    bench = Bench()
    whole = refused_for_good(bench, OutcomeKind.REJECT, HOPELESS_AFTER - 1)
    assert copy_headers.REDUCED not in (whole.properties.headers or {})
    bench = Bench()
    bare = refused_for_good(bench, OutcomeKind.REJECT, HOPELESS_AFTER)
    assert "message size 5" in (bare.properties.headers or {})[copy_headers.REDUCED]
    assert (bare.body, bare.routing_key, bare.properties.message_id) == (whole.body, whole.routing_key, "m")
    assert not bench.settlement.publications.refused.is_hopeless(bare.token)
    bench.confirmed(bare.token)
    assert bench.acked()
    assert bench.state() is RowState.DEAD


def test_one_that_is_refused_even_so_is_told_as_hopeless_and_placed_when_it_is_taken() -> None:
    bench = Bench()
    bare = refused_for_good(bench, OutcomeKind.REJECT, 2 * HOPELESS_AFTER)
    refused = bench.settlement.publications.refused
    assert refused.is_hopeless(bare.token)
    assert "'m'" in refused.told()
    bench.confirmed(bare.token)
    assert len(refused) == 0
    assert bench.acked()


def test_a_copy_for_another_attempt_keeps_the_headers_of_its_message_whatever_is_refused() -> None:
    bench = Bench()
    copy = refused_for_good(bench, OutcomeKind.FAILED, 2 * HOPELESS_AFTER)
    assert copy_headers.REDUCED not in (copy.properties.headers or {})
    assert bench.settlement.publications.refused.is_hopeless(copy.token)
    bench.confirmed(copy.token)
    assert bench.acked()
    assert bench.state() is RowState.RETRY


def test_a_fate_that_no_message_waits_for_has_no_effect() -> None:
    bench = Bench()
    bench.confirmed(99)
    bench.settlement.unpublished(99, "nack", lost=False)
    bench.settlement.publications.publish_again(99)
    turn = bench.turn()
    assert (turn.effects, turn.rows, turn.counters) == ([], {}, {})


def test_the_pending_row_keeps_the_diagnosis() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    kept = msgspec.msgpack.decode(bench.rows[run.key].note, type=Failure)
    assert (kept.cause, kept.reason, kept.at_s, kept.delay_s) == ("failed", "ValueError: no", 1000.0, 1.0)
