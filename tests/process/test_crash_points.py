"""kill -9 at every fail-point, of the process that is there and of the whole daemon: nothing is lost, nothing is run
twice undeclared, and every exit is on record.

One daemon (and its successors) on one state directory is struck at many points, one after another. At every point its
own process is killed; at every third the whole daemon, too, and at all of them with PREFORKD_SOAK=1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from zlib import crc32

import pytest

from tests.support.crash_site import WORKERS, CrashSite, Point, all_points, crash_site
from tests.support.history import extra_runs

POINTS = [point for point in all_points() if not point.path.name.startswith("amqp")]
WHOLE = [point for number, point in enumerate(POINTS) if os.environ.get("PREFORKD_SOAK") or number % 3 == 0]
CASES = [*((point, False) for point in POINTS), *((point, True) for point in WHOLE)]

NO_RUN_OPEN = ("worker.unbegun", "worker.outcome-marked", "worker.leaving-marked", "worker.bye-sent")
"""Points in a worker at which its death must not charge any message."""

Sites = Callable[[str], CrashSite]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """The site for a situation: a running daemon; the one that was used last, unless it has failed."""
    with ExitStack() as stack:
        made: dict[bool, CrashSite] = {}

        def site_for(situation: str) -> CrashSite:
            impatient = situation == "timeout"
            if impatient not in made or made[impatient].failed:
                folder = tmp_path_factory.mktemp("site")
                made[impatient] = stack.enter_context(crash_site(folder, "email", impatient=impatient))
            return made[impatient]

        yield site_for


def most_extra_runs(point: Point, whole_group: bool) -> int:
    """How many runs beyond those ordered the strike may cost: one for each worker that dies with a run open (I4)."""
    if whole_group or point.situation == "start":
        return WORKERS
    return int(point.process == "worker" and point.name not in NO_RUN_OPEN)


@pytest.mark.parametrize(
    ("point", "whole_group"),
    [pytest.param(*case, id=f"{case[0].name}-{'all' if case[1] else 'one'}") for case in CASES],
)
def test_nothing_is_lost_or_run_twice_undeclared(point: Point, whole_group: bool, sites: Sites) -> None:
    site = sites(point.situation)
    with site.evidence():
        ids = site.strike(point, whole_group, skip=crc32(point.name.encode()) % 3 if whole_group else 0)

        assert site.faults(ids) == []
        assert sum(extra_runs(site.history(ids)).values()) <= most_extra_runs(point, whole_group)


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_a_failure_is_declared_wherever_in_its_way_the_consumer_dies(skip: int, sites: Sites) -> None:
    site = sites("work")
    (point,) = [point for point in POINTS if point.name == "consumer.committed"]
    with site.evidence():
        ids = site.strike(point, False, skip, deeds=["fail"] * 3)

        assert site.faults(ids) == []


def test_the_whole_history_is_in_order_when_all_daemons_have_stopped(sites: Sites) -> None:
    for situation in ("work", "timeout"):
        site = sites(situation)
        with site.evidence():
            assert site.stop() == 0
            assert site.faults() == []
            assert site.processes() == []
