"""A daemon of many pools on an empty broker: all are ready in time, and no process is started twice.

With PREFORKD_SOAK there are 60 of them, which declare 420 quorum queues.
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

POOLS = 60 if os.environ.get("PREFORKD_SOAK") else 6
DELAYS = ["1s", "10s", "1m", "10m"]


@pytest.fixture
def site(tmp_path: Path, own_rabbitmq: RabbitNode) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        head, _, pool = site.config.read_text().replace("embedded:", own_rabbitmq.url).partition("[pools.mail]")
        pools = (
            f"[pools.mail{number}]{pool}".replace('queue = "mail"', f'queue = "mail{number}"').replace(
                "max_attempts = 1", f"max_attempts = 2\nretry_delays = {DELAYS}"
            )
            for number in range(POOLS)
        )
        site.config.write_text(head + "\n".join(pools))
        yield site


def test_many_pools_on_an_empty_broker_are_ready_within_the_time_of_a_start(
    site: Site, own_rabbitmq: RabbitNode
) -> None:
    site.cli("start", "--timeout", "20")  # with many pools on a slow machine it goes on in the background
    eventually(lambda: site.cli("status").returncode == 0, "every pool is ready", 300.0)

    assert own_rabbitmq.call("length(rabbit_amqqueue:list())") == str(POOLS * (3 + len(DELAYS)))
    consumers = [pool["consumer"] for pool in site.status()["pools"].values()]
    assert [consumer["connection"]["state"] for consumer in consumers] == ["connected"] * POOLS
    assert [consumer["connection"]["opened"] for consumer in consumers] == [2] * POOLS
    assert [record for record in site.exits() if record["kind"] == "consumer"] == []
    site.ok("stop")
