"""A daemon of many pools whose queues are missing: all are ready in time, and no process is started twice.

With PREFORKD_SOAK there are 60 of them on an empty broker, which declare 420 quorum queues.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rabbitmq import RabbitNode
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

SOAK = bool(os.environ.get("PREFORKD_SOAK"))
POOLS = 60 if SOAK else 4
DELAYS = ["1s", "10s", "1m", "10m"]


@pytest.fixture
def node(request: pytest.FixtureRequest) -> RabbitNode:
    """An empty one in the long form."""
    found: RabbitNode = request.getfixturevalue("own_rabbitmq" if SOAK else "rabbitmq")
    return found


@pytest.fixture
def queues(tmp_path: Path) -> list[str]:
    return [f"{tmp_path.name}-{number}" for number in range(POOLS)]


@pytest.fixture
def site(tmp_path: Path, node: RabbitNode, queues: list[str]) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        head, _, pool = site.config.read_text().replace("embedded:", node.url).partition("[pools.mail]")
        pool = pool.replace("max_attempts = 1", f"max_attempts = 2\nretry_delays = {DELAYS}")
        pools = (f"[pools.p{number}]{pool.replace('mail', queue, 1)}" for number, queue in enumerate(queues))
        site.config.write_text(head + "\n".join(pools))
        yield site


def test_many_pools_whose_queues_are_missing_are_ready_and_no_process_is_started_twice(
    site: Site, node: RabbitNode, queues: list[str]
) -> None:
    site.cli("start", "--timeout", "20")  # with many pools on a slow machine it goes on in the background
    eventually(lambda: _states(site) == {"connected"}, "every pool is connected", 300.0)

    consumers = [pool["consumer"] for pool in site.status()["pools"].values()]
    assert [consumer["connection"]["opened"] for consumer in consumers] == [2] * POOLS
    assert [record for record in site.exits() if record["kind"] == "consumer"] == []
    site.ok("stop")
    with node.channel() as channel:
        for queue in queues:
            for end in ("", ".dead", ".parked", ".retry.1000", ".retry.10000", ".retry.60000", ".retry.600000"):
                channel.queue_declare(queue + end, passive=True)
                channel.queue_delete(queue + end)


def _states(site: Site) -> set[str]:
    """The states of all pools' connections."""
    return {pool["consumer"]["connection"]["state"] for pool in site.status()["pools"].values()}
