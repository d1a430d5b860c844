"""`on_crash = "inbox"`: what a death comes to, what travels to the next attempt, and how the message ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.brokers import copy_headers
from supervisor.brokers.base import Outgoing
from supervisor.consumer.settlement.messages import NONE_EARLIER, Earlier, Failure
from supervisor.consumer.settlement.missing import lose
from supervisor.ledger.base import RowState
from supervisor.link.frames import Run, RunId
from supervisor.logs.events import Event
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import KILLED, QUEUE, RAISED, W0, Bench, key_of

DATABASE = b"0123456789abcdef"
USED = msgspec.structs.replace(KILLED, database=DATABASE)
CRASHED = Failure("crash", "p/0 ended while running it: crash (SIGSEGV)", "p/0", "frames", None, "SIGSEGV")
UNDONE = Failure("reject", "no earlier attempt of it has committed", "p/0", "", database=DATABASE)


def inbox_bench(**pool: Any) -> Bench:
    return Bench(**{"on_crash": "inbox", "max_attempts": 2} | pool)


def copy_after(bench: Bench, run: RunId, failure: Failure = USED) -> Outgoing:
    """The worker of this run dies; the copy that follows is confirmed."""
    bench.settlement.died(W0, run, failure)
    return confirmed_copy(bench)


def confirmed_copy(bench: Bench) -> Outgoing:
    bench.turn()
    (copy,) = bench.published()
    bench.confirmed(copy.token)
    bench.turn()
    return copy


def sent_run(bench: Bench) -> Run:
    (frame,) = bench.sent()
    assert isinstance(frame, Run)
    return frame


def up_to_the_question(bench: Bench) -> RunId:
    """With two attempts, three deaths; the run that only asks is under way."""
    _, run = bench.begun()
    for _ in range(3):
        run = bench.comes(copy_after(bench, run))
    return run


def headers_of(copy: Outgoing) -> dict[str, Any]:
    return copy.properties.headers or {}


def test_a_death_leads_to_the_next_attempt_at_once() -> None:
    bench = inbox_bench()
    _, run = bench.begun()
    copy = copy_after(bench, run)
    assert (copy.routing_key, copy.delay_s, headers_of(copy)[copy_headers.ATTEMPT]) == (QUEUE, 0.0, 2)
    assert bench.state() is RowState.RETRY


def test_the_next_attempt_is_told_the_database_of_the_inbox() -> None:
    bench = inbox_bench()
    _, run = bench.begun()
    assert sent_run(bench).database == b""
    bench.comes(copy_after(bench, run))
    assert (sent_run(bench).database, sent_run(bench).given_up) == (DATABASE, "")


def test_a_failed_run_tells_its_database_as_well() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.FAILED, msgspec.structs.replace(RAISED, database=DATABASE))
    bench.comes(confirmed_copy(bench))
    assert sent_run(bench).database == DATABASE


def test_a_message_that_kills_its_worker_has_max_attempts_and_one_then_its_inbox_is_asked() -> None:
    bench = inbox_bench()
    run = up_to_the_question(bench)
    assert run.attempt == 4
    assert sent_run(bench).given_up == "3 attempts, the last: killed (SIGKILL), p/0"


def test_a_letter_of_an_inbox_without_the_message_tells_of_the_death() -> None:
    bench = inbox_bench(max_attempts=1)
    _, run = bench.begun()
    run = bench.comes(copy_after(bench, run, USED))
    run = bench.comes(copy_after(bench, run, CRASHED))
    bench.ends(run, OutcomeKind.REJECT, UNDONE)
    letter = confirmed_copy(bench)
    headers = headers_of(letter)
    assert (letter.routing_key, bench.state()) == (f"{QUEUE}.dead", RowState.DEAD)
    assert headers["x-preforkd-cause"] == "crash"
    assert headers["x-preforkd-signal"] == "SIGSEGV"
    assert headers["x-preforkd-stack"] == "frames"
    assert headers["x-preforkd-reason"] == f"{CRASHED.reason}; then its inbox was asked: {UNDONE.reason}"


def test_a_message_that_its_inbox_has_is_done() -> None:
    bench = inbox_bench()
    bench.ends(up_to_the_question(bench))
    bench.turn()
    assert bench.state() is RowState.DONE
    assert bench.empty


@pytest.mark.parametrize("kind", [OutcomeKind.FAILED, OutcomeKind.RETRY, OutcomeKind.PUBLISH_FAILED])
def test_an_inbox_is_asked_once(kind: OutcomeKind) -> None:
    bench = inbox_bench()
    bench.ends(up_to_the_question(bench), kind)
    letter = confirmed_copy(bench)
    assert letter.routing_key == f"{QUEUE}.dead"
    assert headers_of(letter)["x-preforkd-cause"] == "killed"
    assert "not known whether its effect has happened" in headers_of(letter)["x-preforkd-reason"]


def test_a_death_of_the_run_that_asks_is_told_beside_the_first_one() -> None:
    bench = inbox_bench()
    letter = copy_after(bench, up_to_the_question(bench), CRASHED)
    reason = headers_of(letter)["x-preforkd-reason"]
    assert headers_of(letter)["x-preforkd-cause"] == "killed"
    assert reason.startswith(KILLED.reason)
    assert CRASHED.reason in reason


def test_a_restart_forgets_nothing_of_earlier_attempts() -> None:
    """The row of the run has it: its outcome is heard before the broker has brought the copy back."""
    bench = inbox_bench()
    run = up_to_the_question(bench)
    bench.restart()
    bench.settlement.died(W0, run, CRASHED)
    bench.turn()
    assert bench.state() is RowState.DEAD_PENDING


def test_an_attempt_of_a_former_version_has_none_of_this() -> None:
    bench = inbox_bench()
    _, run = bench.begun(run=(1, 2))
    assert (sent_run(bench).database, sent_run(bench).given_up) == (b"", "")
    assert headers_of(copy_after(bench, run))[copy_headers.ATTEMPT] == 3


def test_a_lost_copy_that_is_published_again_knows_what_the_first_knew() -> None:
    bench = inbox_bench()
    _, run = bench.begun()
    copy_after(bench, run)
    lose(bench.settlement.decisions, bench.rows[run.key], "purged")
    bench.turn()
    bench.deliver()
    again = confirmed_copy(bench)
    bench.comes(again)
    assert sent_run(bench).database == DATABASE


def test_a_saved_copy_keeps_what_its_run_knows() -> None:
    bench = inbox_bench()
    earlier = Earlier(1, DATABASE, CRASHED, 3)
    bench.deliver(run=(1, 4), worn=True, earlier=earlier)
    bench.turn()
    (saved,) = bench.published()
    assert bench.entry().earlier == earlier
    bench.confirmed(saved.token)
    bench.turn()
    bench.comes(saved)
    assert sent_run(bench).given_up == "3 attempts, the last: crash (SIGSEGV), p/0"


def test_a_new_round_knows_nothing_of_the_last() -> None:
    bench = inbox_bench()
    letter = copy_after(bench, up_to_the_question(bench), CRASHED)
    bench.comes(letter)
    assert (sent_run(bench).run.round, sent_run(bench).database, sent_run(bench).given_up) == (2, b"", "")


def test_a_run_that_was_not_marked_has_no_database() -> None:
    """Without proof all that a worker had is in doubt, and only one of them was in its slot."""
    bench = inbox_bench()
    runs = [bench.begun(id)[1] for id in ("a", "b")]
    bench.settlement.died(W0, runs[0], USED, proof=False)
    bench.turn()
    told = {copy.properties.message_id: headers_of(copy)[copy_headers.EARLIER] for copy in bench.published()}
    assert (len(told["a"]), told["b"]) == (2, {"deaths": 1})


@pytest.mark.parametrize(
    "table", [None, 7, b"x", [], {"deaths": "many"}, {"database": 5}, {"given_up": 3}, {"given_up": {"cause": 1}}]
)
def test_a_header_that_cannot_be_read_says_nothing(table: Any) -> None:
    bench = inbox_bench()
    _, run = bench.begun()
    copy = copy_after(bench, run)
    headers = headers_of(copy) | {copy_headers.EARLIER: table}
    strange = msgspec.structs.replace(copy, properties=msgspec.structs.replace(copy.properties, headers=headers))
    assert bench.comes(strange) == RunId(key_of("m"), 1, 2)
    assert bench.entry().earlier == NONE_EARLIER


def test_the_question_is_told_in_the_log() -> None:
    bench = inbox_bench(max_attempts=1)
    _, run = bench.begun()
    run = bench.comes(copy_after(bench, run))
    bench.settlement.died(W0, run, USED)
    bench.turn()
    (copy,) = bench.published()
    bench.confirmed(copy.token)
    (retried,) = [saying for saying in bench.turn().said if saying.event is Event.MESSAGE_RETRIED]
    assert "asks its inbox" in retried.text


def test_a_pool_that_gets_an_inbox_by_a_reload_does_not_charge_the_next_death() -> None:
    bench = inbox_bench(on_crash="retry", max_attempts=2)
    _, run = bench.begun()
    run = bench.comes(copy_after(bench, run))
    bench.settlement.configure(msgspec.structs.replace(bench.pool, on_crash="inbox"))
    run = bench.comes(copy_after(bench, run))
    assert (run.attempt, sent_run(bench).given_up, sent_run(bench).database) == (3, "", DATABASE)
    bench.comes(copy_after(bench, run))
    assert sent_run(bench).given_up == "3 attempts, the last: killed (SIGKILL), p/0"


def test_a_failed_message_that_another_daemon_took_on_does_not_hold_up_its_later_runs() -> None:
    """Two daemons on one queue: the original went to the other one, so it never comes back here."""
    bench = inbox_bench()
    _, run = bench.begun()
    bench.settlement.died(W0, run, USED)
    bench.turn()
    bench.restart()
    bench.begun(run=(1, 3))
    assert bench.runs() == [(1, 3)]
