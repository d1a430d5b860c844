"""The sites of a module that strikes the daemon at its fail-points on the embedded queue, one point after another.

With PREFORKD_SOAK=<any number> everything is done at all points, and the number chooses how often each one is passed
before it kills.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from zlib import crc32

import pytest

from tests.support.crash_site import CrashSite, Point, all_points, crash_site

SOAK = os.environ.get("PREFORKD_SOAK", "")


def _is_reached(point: Point) -> bool:
    """Whether a daemon with the embedded queue comes by: not to those of RabbitMQ, nor to those of a fleet."""
    return point.path.parent.name != "amqp" and point.situation != "fleet"


POINTS = {point.name: point for point in all_points() if _is_reached(point)}

Sites = Callable[[bool, str], CrashSite]


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
