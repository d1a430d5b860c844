"""kill -9 where the consumer speaks with RabbitMQ: what it had sent may have arrived or not, and nothing is lost or run
twice undeclared.

The points of the AMQP broker, and those around the ledger's commit; with PREFORKD_SOAK=1 all points there are. The
whole product of points and scopes is struck on the embedded queue in tests/process/test_crash_points.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.crash_site import CrashSite, Point, all_points, crash_site
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq

AROUND_THE_COMMIT = ("consumer.decided", "consumer.tails-advanced", "consumer.links-flushed")
POINTS = [
    point
    for point in all_points()
    if point.path.parent.name != "embedded"
    and point.situation != "timeout"
    and (os.environ.get("PREFORKD_SOAK") or point.path.parent.name == "amqp" or point.name in AROUND_THE_COMMIT)
]


@pytest.fixture(scope="module")
def site(rabbitmq: RabbitNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashSite]:
    with crash_site(tmp_path_factory.mktemp("site"), "crashes", rabbitmq.url) as site:
        yield site


@pytest.mark.parametrize("whole_group", [False, True], ids=["one", "all"])
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_nothing_is_lost_or_run_twice_undeclared_on_rabbitmq(point: Point, whole_group: bool, site: CrashSite) -> None:
    with site.evidence():
        ids = site.strike(point, whole_group, skip=1)

        assert site.faults(ids) == []


def test_the_whole_history_on_rabbitmq_is_in_order(site: CrashSite) -> None:
    with site.evidence():
        assert site.stop() == 0
        assert site.faults() == []
