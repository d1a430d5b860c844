"""kill -9 at fail-points: of the whole daemon, of several processes in one piece of work, in any turn of a way.

Nothing is lost, nothing is run twice undeclared; with `on_crash = "park"` no crash is followed by another run at all.
The whole daemon is killed at every fifth point; test_crash_points.py kills the one process at each of them.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.support.crash_site import WORKERS, Point
from tests.support.crash_sites import POINTS, SOAK, Sites, sites, skip_of
from tests.support.history import charges

__all__ = ["sites"]

AROUND_THE_COMMIT = ("consumer.decided", "consumer.committed", "consumer.tails-advanced", "consumer.broker-flushed")
"""Passed in every turn with a decision: what a death there means depends on which turn it is."""

DOUBTFUL = (
    *("worker.running-marked", "worker.handler-over", "worker.cell-written", "worker.published"),
    *("consumer.exit-notice-heard", "consumer.exit-notice-durable", "master.group-ended", "master.record-written"),
)
"""Where a death leaves it open what became of a run, or comes between such a death and its settlement."""

some_points = pytest.mark.parametrize("point", list(POINTS.values())[:: 1 if SOAK else 5], ids=lambda point: point.name)
doubtful_points = pytest.mark.parametrize(
    "point", [POINTS[name] for name in POINTS if SOAK or name in DOUBTFUL], ids=str
)


@some_points
def test_nothing_is_lost_or_run_twice_undeclared_when_all_die(point: Point, sites: Sites) -> None:
    site = sites(point.situation == "timeout", "retry")
    with site.evidence():
        ids = site.strike(point, whole_group=True, skip=skip_of(point))

        assert site.faults(ids) == []
        assert sum(charges(site.history(ids)).values()) <= WORKERS


@doubtful_points
def test_with_park_no_crash_is_followed_by_another_run(point: Point, sites: Sites) -> None:
    site = sites(point.situation == "timeout", "park")
    with site.evidence():
        ids = site.strike(point, whole_group=False, skip=skip_of(point))

        assert site.faults(ids) == []
        assert set(charges(site.history(ids), ordered={"fail": 2})) == set()


@pytest.mark.parametrize("number", range(40 if SOAK else 4))
def test_several_deaths_in_one_piece_of_work(number: int, sites: Sites) -> None:
    chance = Random(f"{number} {SOAK}")
    points = chance.sample([point for point in POINTS.values() if point.situation in ("work", "start")], 4)
    site = sites(False, "retry")
    with site.evidence():
        ids = site.storm(points, whole_group=number % 4 == 3)

        assert site.faults(ids) == [], points


@pytest.mark.parametrize("skip", [1, 2, 5])
@pytest.mark.parametrize("name", AROUND_THE_COMMIT)
def test_a_consumer_may_die_in_any_turn_of_a_messages_way(name: str, skip: int, sites: Sites) -> None:
    site = sites(False, "retry")
    with site.evidence():
        ids = site.strike(POINTS[name], whole_group=False, skip=skip, deeds=["done", "fail", "publish"])

        assert site.faults(ids) == []
        assert charges(site.history(ids)) == {}
