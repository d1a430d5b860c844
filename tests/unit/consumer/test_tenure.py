"""How long a host of a fleet takes, begins and keeps messages: by the time of its ledger alone."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.consumer.observe.health import Health
from supervisor.consumer.settlement.unit_of_work import Send
from supervisor.consumer.tenure import Tenure
from supervisor.link.frames import Run
from tests.support.settling import W0, Bench

BEGINS_S, HOLDS_S = 115.0, 130.0


class Lease:
    """A ledger, as far as its time is concerned."""

    waits_for = "the store of the fleet does not answer (a cut cable)"

    def __init__(self) -> None:
        self.begins_until_s, self.holds_until_s = BEGINS_S, HOLDS_S

    def renew(self, by_s: float) -> None:
        """A call was answered."""
        self.begins_until_s += by_s
        self.holds_until_s += by_s


class Taking:
    """Settlement and broker: what they are told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda: self.told.append(name)

    def take(self) -> list[str]:
        """What was told since the last time."""
        told, self.told = self.told, []
        return told


class Parts:
    """A tenure and what it moves."""

    def __init__(self) -> None:
        self.lease, self.taking, self.health = Lease(), Taking(), Health("q")
        parts: Any = (self.lease, self.taking, self.taking, self.health)
        self.tenure = Tenure(*parts)

    def at(self, now_s: float) -> list[str]:
        """What a look at this time does."""
        self.tenure.look(now_s)
        return self.taking.take()


@pytest.fixture
def parts() -> Parts:
    return Parts()


def test_nothing_changes_before_half_of_the_lease_is_over(parts: Parts) -> None:
    assert (parts.at(BEGINS_S - 0.1), parts.tenure.is_deaf, parts.health.present) == ([], False, [])


def test_from_then_on_nothing_is_taken_or_begun_and_the_pool_says_why(parts: Parts) -> None:
    assert parts.at(BEGINS_S) == ["drain", "cancel"]
    assert parts.tenure.is_deaf
    (symptom,) = parts.health.present
    assert (symptom.name, symptom.degrades) == ("fleet.deaf", True)
    assert "a cut cable" in symptom.text
    assert parts.at(BEGINS_S + 1.0) == []


def test_at_the_end_of_the_lease_the_connection_is_given_up_once(parts: Parts) -> None:
    parts.at(BEGINS_S)
    assert parts.at(HOLDS_S - 0.1) == []
    assert parts.at(HOLDS_S) == ["cut"]
    assert parts.at(HOLDS_S + 1.0) == []


def test_a_consumer_that_stood_still_beyond_its_lease_does_both_at_its_first_look(parts: Parts) -> None:
    assert sorted(parts.at(HOLDS_S + 60.0)) == ["cancel", "cut", "drain"]
    assert parts.at(HOLDS_S + 61.0) == []


def test_an_answer_lets_it_go_on_and_the_next_outage_is_another_one(parts: Parts) -> None:
    parts.at(BEGINS_S)
    parts.at(HOLDS_S)
    parts.lease.renew(100.0)
    assert (parts.at(HOLDS_S + 1.0), parts.tenure.is_deaf) == (["resume", "subscribe"], False)
    assert parts.health.present == []
    assert parts.at(BEGINS_S + 100.0) == ["drain", "cancel"]
    assert parts.at(HOLDS_S + 100.0) == ["cut"]


def test_what_an_operator_has_paused_stays_paused_after_an_outage(parts: Parts) -> None:
    parts.tenure.want(False)
    assert parts.taking.take() == ["drain", "cancel"]
    parts.at(BEGINS_S)
    parts.taking.take()
    parts.lease.renew(100.0)
    assert parts.at(BEGINS_S + 1.0) == []
    parts.tenure.want(True)
    assert parts.taking.take() == ["resume", "subscribe"]


def test_a_resume_during_an_outage_counts_once_it_is_over(parts: Parts) -> None:
    parts.at(BEGINS_S)
    parts.taking.take()
    parts.tenure.want(True)
    assert parts.taking.take() == []
    parts.lease.renew(100.0)
    assert parts.at(BEGINS_S + 1.0) == ["resume", "subscribe"]


@pytest.mark.parametrize(
    ("expires_s", "until_s", "due_s"),
    [(None, float("inf"), 0.0), (None, 50.0, 50.0), (40.0, 50.0, 40.0), (60.0, 50.0, 50.0), (60.0, float("inf"), 60.0)],
)
def test_i3_a_worker_is_told_until_when_it_may_begin(expires_s: float | None, until_s: float, due_s: float) -> None:
    bench = Bench()
    bench.settlement.begin_turn(1000.0, 1_796_000_000.0, 10.0)
    expires = None if expires_s is None else 1_796_000_000.0 + expires_s - 10.0
    bench.deliver(expires=expires)
    bench.settlement.assignments.fill([W0], lambda entry: False, until_s)
    (sent,) = [effect.frame for effect in bench.turn().effects if isinstance(effect, Send)]
    assert isinstance(sent, Run)
    assert sent.due_s == pytest.approx(due_s)
