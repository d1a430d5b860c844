"""What the consumer answers about failed messages that have not come back, and what it gives up by order."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from supervisor.brokers import copy_headers
from supervisor.consumer.answers import NAMED, Answers
from supervisor.consumer.observe.delay_watch import DelayWatch
from supervisor.consumer.observe.health import Health
from supervisor.consumer.settlement.missing import lose
from supervisor.ledger.base import Row, RowState
from supervisor.link.frames import FindGone, Found
from supervisor.logs.events import Event
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import RAISED, Bench, key_of

OTHERS: Any = None  # the ledger and the arrivals, which this question does not need


def failed(*ids: str) -> Bench:
    """Messages that failed while no consumer was there, and that the next one has not got."""
    bench = Bench()
    runs = [bench.begun(name)[1] for name in ids]
    bench.restart()
    for run in runs:
        bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    return bench


class Rows:
    """A ledger of the bench's rows."""

    now_s = 0.0

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def settled_before(self, place: int | None, since_s: float) -> tuple[list[Row], None]:
        return [], None

    def look_up(self, keys: list[bytes]) -> dict[bytes, list[Row]]:
        return {key: [self.bench.rows[key]] for key in keys}


def ask(bench: Bench, drop: list[str] | None) -> Found:
    delays = DelayWatch(bench.pool, cast(Any, Rows(bench)), bench.settlement, Health("q"), key_of)
    delays.begin(lambda delay_s, callback: callback())
    delays.turned(bench.rows)
    return Answers("p", bench.settlement, OTHERS, OTHERS, delays).find_gone(FindGone(7, drop, "alice"))


def named(found: Found) -> list[str]:
    return [str(trace.message_id) for trace in found.traces]


def reason_of(found: Found) -> str:
    failure = found.traces[0].failure
    return failure.reason if failure is not None else ""


def test_a_question_names_those_that_have_not_come_back_and_changes_nothing() -> None:
    bench = failed("a", "b", "here")
    bench.deliver("here", redelivered=True)
    found = ask(bench, [])
    assert (found.number, named(found), found.total, found.why) == (7, ["a", "b"], 2, "")
    assert (found.traces[0].state, reason_of(found)) == ("retry_pending", RAISED.reason)
    bench.turn()
    assert (bench.last.rows, bench.said()) == ({}, [])


@pytest.mark.parametrize(("drop", "dropped"), [(["b", "other"], ["b"]), (None, ["a", "b"]), (["here", "other"], [])])
def test_only_what_was_named_and_has_not_come_back_is_dropped(drop: list[str] | None, dropped: list[str]) -> None:
    bench = failed("a", "b", "here")
    bench.deliver("here", redelivered=True)
    bench.turn()
    assert named(ask(bench, drop)) == dropped
    bench.turn()
    assert bench.said() == [Event.MESSAGE_GONE] * len(dropped)
    assert bench.counters.get("gone", 0) == len(dropped)
    assert [said.fields["message_id"] for said in bench.last.said] == dropped
    assert all("dropped by alice" in said.text for said in bench.last.said)
    assert [bench.rows[key_of(name)].state for name in dropped] == [RowState.GONE] * len(dropped)
    assert bench.rows[key_of("here")].state is RowState.RETRY_PENDING
    assert named(ask(bench, None if drop is None else drop)) == [], "a second order finds nothing"


def test_a_dropped_message_that_comes_after_all_gets_its_copy_and_is_not_run() -> None:
    bench = failed("a")
    ask(bench, None)
    bench.turn()
    tag = bench.deliver("a", redelivered=True)
    bench.turn()
    assert not bench.settlement.assignments.waiting
    (copy,) = bench.published()
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]


def test_of_many_only_the_first_are_named_and_all_are_counted() -> None:
    bench = failed(*(f"m{number}" for number in range(NAMED + 1)))
    found = ask(bench, None)
    assert (len(found.traces), found.total) == (NAMED, NAMED + 1)
    bench.turn()
    assert bench.empty


def lost(*ids: str) -> Bench:
    """Messages whose copies for attempt 2 were lost at the broker."""
    bench = Bench()
    for name in ids:
        bench.has_row(RowState.RETRY, id=name, note=msgspec.msgpack.encode(RAISED))
        lose(bench.settlement.decisions, bench.rows[key_of(name)], "'q.retry.1000' was deleted")
    bench.turn()
    return bench


def test_a_lost_retry_is_told_and_listed_until_an_operator_lets_it_go() -> None:
    bench = lost("a", "b")
    assert bench.said() == [Event.MESSAGE_GONE] * 2
    assert "'q.retry.1000' was deleted" in bench.last.said[0].text
    assert bench.counters["gone"] == 2
    found = ask(bench, [])
    assert (named(found), found.total, found.traces[0].state) == (["a", "b"], 2, "gone")
    assert reason_of(found) == RAISED.reason

    assert named(ask(bench, ["b"])) == ["b"]
    bench.turn()
    assert "dropped by alice" in bench.last.said[0].text
    assert (named(ask(bench, [])), bench.counters["gone"]) == (["a"], 2)


def test_a_lost_retry_whose_message_is_published_again_gets_its_copy_once() -> None:
    bench = lost("a")
    tag = bench.deliver("a")
    bench.turn()
    (copy,) = bench.published()
    assert (copy.properties.headers or {})[copy_headers.ATTEMPT] == 2
    assert named(ask(bench, [])) == []
    bench.confirmed(copy.token)
    assert bench.acked() == [tag]
    assert bench.state("a") is RowState.RETRY


def test_a_lost_retry_that_comes_after_all_runs_once_beside_the_one_that_was_published_again() -> None:
    bench = lost("a")
    bench.deliver("a", (1, 2))
    bench.assign()
    bench.turn()
    assert (bench.runs(), named(ask(bench, []))) == ([(1, 2)], [])
    bench.deliver("a")
    bench.turn()
    assert bench.said() == [Event.MESSAGE_DUPLICATE]


def test_a_copy_that_came_back_meanwhile_is_not_lost() -> None:
    bench = Bench()
    bench.has_row(RowState.RETRY, note=msgspec.msgpack.encode(RAISED))
    row = bench.rows[key_of("m")]
    assert bench.settlement.is_last(row)
    bench.deliver("m", (1, 2))
    assert not bench.settlement.is_last(row)
