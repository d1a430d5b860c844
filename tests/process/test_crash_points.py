"""kill -9 at every fail-point of the process that is there: nothing is lost, nothing is run twice undeclared, and every
exit is on record.

One daemon (and its successors) on one state directory is struck at many points, one after another. What strikes more
than one process, or one more than once, is in test_crash_points_together.py.
"""

from __future__ import annotations

import pytest

from tests.support.crash_site import WORKERS, Point
from tests.support.crash_sites import POINTS, Sites, sites, skip_of
from tests.support.history import charges

__all__ = ["sites"]

NO_RUN_OPEN = ("worker.unbegun", "worker.outcome-marked", "worker.leaving-marked", "worker.bye-sent")
"""Points in a worker at which its death must not charge any message."""

every_point = pytest.mark.parametrize("point", POINTS.values(), ids=lambda point: point.name)


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
