"""Stops as histories: a table of facts over time, and the phases they are expected to lead through."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.master.pool.children import Child, Children, Kind
from supervisor.master.pool.consumer_channel import ConsumerChannel
from supervisor.master.pool.signalling import OVERDUE_S
from supervisor.master.stop.phases import LEAVE_S, QUIT_S, SETTLE_S, Facts, Stop, StopPhase
from supervisor.master.stop.stopping import CALLED_BACK_S, Stopping

D, L, K, Q, E, G = StopPhase
TIMEOUT_S = 60.0

BUSY = Facts(drained=False, settled=False, workers=2, others=2)
DRAINED = Facts(drained=True, settled=True, workers=2, others=2)
UNSETTLED = Facts(drained=False, settled=False, workers=0, others=2)
ALONE = Facts(drained=True, settled=True, workers=0, others=2)
NO_CHILD = Facts(drained=True, settled=True, workers=0, others=0)

Moment = tuple[float, Facts, list[StopPhase]]

HISTORIES: dict[str, list[Moment]] = {
    "an orderly stop: drained, left, said goodbye": [
        (0.0, BUSY, []),
        (1.0, DRAINED, [L]),
        (1.1, ALONE, [K, Q]),
        (1.2, NO_CHILD, [E, G]),
    ],
    "a handler that outlasts the stop timeout is killed, and its message settled": [
        (59.9, BUSY, []),
        (60.0, BUSY, [L]),
        (60.0 + LEAVE_S, BUSY, [K]),
        (66.0, UNSETTLED, []),
        (67.0, ALONE, [Q]),
        (67.1, NO_CHILD, [E, G]),
    ],
    "a consumer that cannot settle is not waited for without end": [
        (60.0, BUSY, [L]),
        (65.0, BUSY, [K]),
        (65.0 + SETTLE_S, UNSETTLED, [Q]),
        (75.0 + QUIT_S, UNSETTLED, [E]),
        (90.0, NO_CHILD, [G]),
    ],
    "a killed worker that is still dying is waited for, however long": [
        (60.0, BUSY, [L]),
        (65.0, BUSY, [K]),
        (500.0, BUSY, []),
        (501.0, ALONE, [Q]),
    ],
    "no child there: over at once": [(0.0, NO_CHILD, [L, K, Q, E, G])],
}


def phases(stop: Stop, facts: Facts, now_s: float) -> list[StopPhase]:
    passed = []
    while stop.advance(facts, now_s):
        passed.append(stop.phase)
    return passed


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_histories_of_a_stop(history: list[Moment]) -> None:
    stop = Stop("SIGTERM", 0.0, TIMEOUT_S)
    for now_s, facts, expected in history:
        assert phases(stop, facts, now_s) == expected


def test_now_kills_without_waiting_for_handlers() -> None:
    stop = Stop("preforkd stop", 0.0, TIMEOUT_S, now=True)
    assert phases(stop, BUSY, 0.0) == [StopPhase.KILLING]


def test_a_second_request_kills_what_is_still_running() -> None:
    stop = Stop("SIGINT", 0.0, TIMEOUT_S)
    assert phases(stop, BUSY, 1.0) == []
    stop.hurry(2.0)
    assert phases(stop, BUSY, 2.0) == [StopPhase.KILLING]


def test_a_second_request_while_workers_leave_kills_them() -> None:
    stop = Stop("SIGINT", 0.0, TIMEOUT_S)
    assert phases(stop, DRAINED, 1.0) == [StopPhase.LEAVING]
    stop.hurry(1.5)
    assert phases(stop, DRAINED, 1.5) == [StopPhase.KILLING]


def test_a_second_request_does_not_cut_short_the_settling() -> None:
    stop = Stop("SIGINT", 0.0, TIMEOUT_S, now=True)
    assert phases(stop, UNSETTLED, 0.0) == [StopPhase.KILLING]
    stop.hurry(0.5)
    assert phases(stop, UNSETTLED, 0.5) == []
    assert phases(stop, ALONE, 0.6) == [StopPhase.QUITTING]


def test_a_stop_only_goes_forward() -> None:
    stop = Stop("SIGTERM", 0.0, TIMEOUT_S)
    passed = phases(stop, DRAINED, 1.0) + phases(stop, BUSY, 2.0) + phases(stop, ALONE, 3.0)
    assert passed == sorted(passed)


def test_a_stop_proceeds_when_a_killed_worker_counts_as_one_that_cannot_be_ended() -> None:
    children = Children()
    children.add(Child("p", Kind.WORKER, 0, 1, 0, 1, 0.0, killed_s=7.0))
    pool: Any = SimpleNamespace(name="p", consumer_channel=ConsumerChannel())
    stopping = Stopping(Stop("SIGTERM", 0.0, TIMEOUT_S), [pool], children)
    assert sorted(stopping.due_times(0.5)) == [CALLED_BACK_S, 7.0 + OVERDUE_S, TIMEOUT_S]
    assert sorted(stopping.due_times(8.0)) == [7.0 + OVERDUE_S, TIMEOUT_S]
