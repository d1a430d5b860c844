"""kill -9 at every fail-point, of the process that is there and of the whole daemon: nothing is lost, nothing is run
twice undeclared, and every exit is on record.

One daemon (and its successors) on one state directory is struck at many points, one after another. At every point its
own process is killed; at every fifth the whole daemon, too. With PREFORKD_SOAK=<any number> everything is done at all
points, and the number chooses how often each one is passed before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import Random
from zlib import crc32

import pytest

from tests.support.crash_site import WORKERS, CrashSite, Point, all_points, crash_site
from tests.support.history import charges

SOAK = os.environ.get("PREFORKD_SOAK", "")
POINTS = {point.name: point for point in all_points() if not point.path.name.startswith("amqp")}

NO_RUN_OPEN = ("worker.unbegun", "worker.outcome-marked", "worker.leaving-marked", "worker.bye-sent")
"""Points in a worker at which its death must not charge any message."""

AROUND_THE_COMMIT = ("consumer.decided", "consumer.committed", "consumer.tails-advanced", "consumer.broker-flushed")
"""Passed in every turn with a decision: what a death there means depends on which turn it is."""

DOUBTFUL = (
    *("worker.running-marked", "worker.handler-over", "worker.cell-written", "worker.published"),
    *("consumer.verdict-heard", "consumer.verdict-durable", "master.group-ended", "master.record-written"),
)
"""Where a death leaves it open what became of a run, or comes between such a death and its settlement."""

Sites = Callable[[bool, str], CrashSite]

every_point = pytest.mark.parametrize("point", POINTS.values(), ids=lambda point: point.name)
some_points = pytest.mark.parametrize("point", list(POINTS.values())[:: 1 if SOAK else 5], ids=lambda point: point.name)
doubtful_points = pytest.mark.parametrize(
    "point", [POINTS[name] for name in POINTS if SOAK or name in DOUBTFUL], ids=str
)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """A site with a running daemon, impatient or not, and its on_crash; the last one of this kind unless it failed."""
    with ExitStack() as stack:
        made: dict[tuple[bool, str], CrashSite] = {}

        def site_for(impatient: bool = False, on_crash: str = "retry") -> CrashSite:
            kind = impatient, on_crash
            if kind not in made or made[kind].failed:
                site = crash_site(tmp_path_factory.mktemp("site"), "email", impatient=impatient, on_crash=on_crash)
                made[kind] = stack.enter_context(site)
            return made[kind]

        yield site_for
        for site in made.values():
            if not site.failed:
                look_back(site)


def look_back(site: CrashSite) -> None:
    """With all daemons stopped, the ledger can be read, too."""
    with site.evidence():
        assert site.stop() == 0
        assert site.faults() == []
        assert site.processes() == []


def skip_of(point: Point) -> int:
    """How often the point is passed before it kills: another number for each point, always the same."""
    return crc32(f"{point.name}{SOAK}".encode()) % 4


@every_point
def test_nothing_is_lost_or_run_twice_undeclared_when_one_process_dies(point: Point, sites: Sites) -> None:
    site = sites(point.situation == "timeout", "retry")
    with site.evidence():
        ids = site.strike(point, whole_group=False, skip=skip_of(point))

        assert site.faults(ids) == []
        assert sum(charges(site.history(ids)).values()) <= most_charges(point)


def most_charges(point: Point) -> int:
    """How many attempts the death of this process may charge: those of runs that were open in it (I4)."""
    if point.situation == "start":
        return WORKERS
    return int(point.process == "worker" and point.name not in NO_RUN_OPEN)


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
