"""Messages whose time is over before their first run: dead letters, never run and never lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.ledger.base import Rival, RowState
from supervisor.logs.events import Event
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import KILLED, W0, W1, Bench

NOW_S = 1_800_000_000


class Clocked(Bench):
    """A bench at a certain time."""

    def __init__(self, **pool: Any) -> None:
        super().__init__(**pool)
        self.passed_s = 0.0
        self.pass_s(0.0)

    def pass_s(self, seconds: float) -> None:
        """Time goes by."""
        self.passed_s += seconds
        self.settlement.expiries.look(self.passed_s, NOW_S + self.passed_s)

    def dispatch(self, *places: Any) -> None:
        """Workers have room."""
        self.settlement.assignments.fill(places or (W0, W1), self.settlement.expires)


def cause(bench: Bench) -> tuple[Any, ...]:
    """Cause, number of attempts and queue of the only copy of the turn."""
    (copy,) = bench.published()
    headers = copy.properties.headers or {}
    return headers["x-preforkd-cause"], headers["x-preforkd-attempts"], copy.routing_key


def test_a_message_that_arrives_too_late_is_a_dead_letter_at_once() -> None:
    bench = Clocked(max_wait_s=600.0)
    tag = bench.deliver(timestamp=NOW_S - 720)
    bench.turn()
    assert cause(bench) == ("expired", 0, "work.dead")
    assert bench.state() is RowState.DEAD_PENDING
    bench.dispatch()
    bench.confirmed(bench.published()[0].token)
    assert bench.acked() == [tag]
    assert (bench.runs(), bench.state(), bench.empty) == ([], RowState.DEAD, True)
    assert (bench.counters["expired"], bench.counters["dead"], bench.counters.get("failed")) == (1, 1, None)


def test_its_log_line_has_cause_and_reason() -> None:
    bench = Clocked(max_wait_s=600.0)
    bench.deliver(timestamp=NOW_S - 720)
    bench.turn()
    bench.confirmed(bench.published()[0].token)
    (said,) = bench.turn().said
    assert (said.event, said.fields["cause"]) == (Event.MESSAGE_DEAD, "expired")
    assert said.text == f"message 'm': dead without a run: {said.fields['reason']}"
    assert "12m ago; max_wait is 10m" in said.fields["reason"]


def test_a_message_that_waits_here_expires_as_its_turn_comes() -> None:
    bench = Clocked()
    for id, expires in (("a", NOW_S + 10), ("b", None), ("c", NOW_S + 10), ("d", NOW_S + 99)):
        bench.deliver(id, expires=expires)
    bench.pass_s(20.0)
    bench.dispatch()
    bench.turn()
    assert [frame.id for frame in bench.sent()] == ["b", "d"]  # type: ignore[union-attr]
    assert [copy.properties.message_id for copy in bench.published()] == ["a", "c"]


def test_without_room_in_a_worker_what_waits_does_not_expire() -> None:
    bench = Clocked()
    bench.deliver(expires=NOW_S + 10)
    bench.pass_s(20.0)
    bench.settlement.assignments.fill([], bench.settlement.expires)
    bench.turn()
    assert not bench.published()


def test_a_message_that_a_worker_gives_back_unbegun_expires() -> None:
    bench = Clocked()
    _, run = bench.begun(expires=NOW_S + 10)
    bench.pass_s(20.0)
    bench.settlement.returned(W0, [run])
    bench.dispatch()
    bench.turn()
    assert cause(bench) == ("expired", 0, "work.dead")


def test_a_message_that_has_begun_gets_its_next_attempt_at_any_time() -> None:
    bench = Clocked(max_wait_s=600.0)
    _, run = bench.begun(expires=NOW_S + 10, timestamp=NOW_S)
    bench.pass_s(6000.0)
    bench.settlement.died(W0, run, KILLED)
    bench.turn()
    bench.confirmed(bench.published()[0].token)
    bench.turn()
    bench.deliver(run=(1, 2), expires=NOW_S + 10, timestamp=NOW_S)
    bench.dispatch()
    bench.turn()
    assert bench.runs() == [(1, 2)]


def test_a_dead_letter_that_is_retried_runs_at_any_time() -> None:
    bench = Clocked(max_wait_s=600.0)
    bench.deliver(expires=NOW_S - 10, timestamp=NOW_S - 6000)
    bench.turn()
    bench.confirmed(bench.published()[0].token)
    bench.turn()
    bench.deliver(run=(2, 1), expires=NOW_S - 10, timestamp=NOW_S - 6000)
    bench.dispatch()
    bench.turn()
    assert bench.runs() == [(2, 1)]


@pytest.mark.parametrize("expires", [NOW_S - 10, None])
def test_a_message_without_an_id_that_comes_again_may_have_begun_and_runs(expires: int | None) -> None:
    bench = Clocked(max_wait_s=600.0)
    bench.deliver(None, redelivered=True, expires=expires, timestamp=NOW_S - 6000)
    bench.dispatch()
    bench.turn()
    assert bench.runs() == [(1, 1)]


def test_after_a_restart_an_unbegun_message_of_a_living_worker_still_expires() -> None:
    bench = Clocked()
    _, run = bench.begun(expires=NOW_S + 10)
    bench.restart()
    bench.pass_s(20.0)
    bench.deliver(redelivered=True, expires=NOW_S + 10)
    bench.settlement.returned(W0, [run])
    bench.dispatch()
    bench.turn()
    assert cause(bench) == ("expired", 0, "work.dead")


def test_in_a_pause_nothing_expires() -> None:
    bench = Clocked()
    bench.deliver("waits", expires=NOW_S + 10)
    bench.settlement.drain()
    bench.pass_s(20.0)
    bench.deliver("late", expires=NOW_S + 10)
    bench.deliver("worn", expires=NOW_S + 10, worn=True)
    bench.turn()
    assert [copy.routing_key for copy in bench.published()] == ["work"]
    assert len(bench.returned()) == 2


def test_a_dead_letter_that_is_refused_is_not_run_meanwhile() -> None:
    bench = Clocked()
    bench.deliver(expires=NOW_S - 10)
    bench.turn()
    bench.settlement.unpublished(bench.published()[0].token, "full", lost=False)
    bench.dispatch()
    bench.turn()
    assert (bench.runs(), bench.state()) == ([], RowState.DEAD_PENDING)


def test_a_message_that_another_daemon_has_begun_does_not_expire() -> None:
    bench = Clocked()
    bench.deliver(expires=NOW_S - 10)
    key, row = next(iter(bench.settlement.decisions._rows.items()))
    bench.settlement.refused(row, Rival(msgspec.structs.replace(row, state=RowState.DISPATCHED)))
    bench.turn()
    assert (bench.published(), bench.returned(), list(bench.settlement.assignments.held)) == ([], [], [key])


def test_a_reload_changes_max_wait_for_what_arrives_then() -> None:
    bench = Clocked()
    bench.deliver("a", timestamp=NOW_S - 6000)
    bench.settlement.configure(msgspec.structs.replace(bench.pool, max_wait_s=600.0))
    bench.deliver("b", timestamp=NOW_S - 6000)
    bench.dispatch()
    bench.turn()
    assert bench.runs() == [(1, 1)]
    assert cause(bench) == ("expired", 0, "work.dead")


def test_a_run_that_was_done_is_a_duplicate_and_not_expired() -> None:
    bench = Clocked()
    _, run = bench.begun(expires=NOW_S + 10)
    bench.ends(run, OutcomeKind.DONE)
    bench.turn()
    bench.pass_s(20.0)
    again = bench.deliver(redelivered=True, expires=NOW_S + 10)
    assert bench.acked() == [again]
    assert bench.counters.get("expired") is None
