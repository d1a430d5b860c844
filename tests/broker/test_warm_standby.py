"""docs/how-to/warm-standby.md on two hosts, each in a network of its own: the first one stops, dies, is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from supervisor.errors import ControlError
from tests.support.hosts import Host, listeners, running_hosts
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

POOL = 'exclusive = true\nworkers = 2\nprefetch = 10\ntimeout = "60s"\n'
TAKEOVER_S = 60.0
WAITING = [f"waiting-{number}" for number in range(20)]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    with running_hosts(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory, hosts: list[Host]) -> Iterator[RabbitNode]:
    """A node that both hosts reach, each by an address of its own."""
    with running_node(tmp_path_factory.mktemp("rabbitmq"), listeners(hosts)) as node:
        yield node


@pytest.fixture
def pair(tmp_path: Path, reached: RabbitNode, hosts: list[Host]) -> Iterator[tuple[RabbitDaemon, RabbitDaemon]]:
    """A daemon that runs two long messages and holds others, and its standby."""
    with ExitStack() as stack:
        daemons = []
        for number, host in enumerate(hosts):
            folder = tmp_path / f"host-{number}"
            folder.mkdir()
            address = f"amqp://guest:guest@{host.gateway}:5672/%2F"
            daemons.append(stack.enter_context(rabbit_daemon(folder, reached, POOL, start=False, url=address)))
        first, second = daemons
        second.queue = first.queue
        second.configure(POOL)
        first.start(prefix=hosts[0].prefix)
        second.start(ready=False, prefix=hosts[1].prefix)
        eventually(lambda: "has a consumer already" in state(second)[1], "the standby waits")
        first.send("nothing", message_id="before")
        first.wait_done("before")
        first.send_all(first.order("until", "end", message_id=id) for id in ("long-0", "long-1"))
        first.send_all(first.order("nothing", message_id=id) for id in WAITING)
        eventually(lambda: len(first.marked("begun")) == 3, "the first host runs two")
        yield first, second


def state(daemon: RabbitDaemon) -> tuple[str, str]:
    """Of its consumer, and why; nothing before the daemon answers."""
    with suppress(ControlError, KeyError):
        consumer = daemon.pool()["consumer"]
        return consumer["state"], consumer["connection"]["why"]
    return "", ""


def took_over(daemon: RabbitDaemon) -> None:
    """Wait until it consumes."""
    eventually(lambda: state(daemon)[0] == "consuming", "the standby has taken over", TAKEOVER_S)


def begun(daemon: RabbitDaemon) -> list[str]:
    return [line.split()[0] for line in daemon.marked("begun")]


def test_after_a_stop_the_standby_goes_on_and_nothing_runs_twice(
    pair: tuple[RabbitDaemon, RabbitDaemon],
) -> None:
    first, second = pair
    first.release("end")
    second.release("end")

    assert first.stop() == 0
    took_over(second)

    second_ones = set(WAITING) - set(begun(first))
    second.wait_done(*second_ones)
    eventually(second.settled, "nothing is left")
    assert sorted([*begun(first), *begun(second)]) == sorted(["before", "long-0", "long-1", *WAITING])


def _kill(first: RabbitDaemon, host: Host) -> None:
    first.kill()


def _cut(first: RabbitDaemon, host: Host) -> None:
    host.cut()


@pytest.mark.parametrize("lost", [_kill, _cut], ids=["killed", "cut off"])
def test_a_host_that_is_lost_ends_its_two_runs_and_begins_no_other_while_the_standby_runs_all(
    pair: tuple[RabbitDaemon, RabbitDaemon], hosts: list[Host], lost: Callable[[RabbitDaemon, Host], None]
) -> None:
    """The standby does not know what was running: these two run again as first attempts, as the page says."""
    first, second = pair
    second.release("end")
    try:
        lost(first, hosts[0])
        took_over(second)
        second.wait_done("long-0", "long-1", *WAITING, timeout_s=TAKEOVER_S)
        before = begun(first)
        first.release("end")
        eventually(lambda: {"long-0", "long-1"} <= set(first.marked("done")), "the lost host ends its runs")
    finally:
        hosts[0].mend()

    if lost is _cut:
        eventually(lambda: "has a consumer already" in state(first)[1], "the first one is the standby", TAKEOVER_S)
        first.send("nothing", message_id="after")
        second.wait_done("after")
    assert begun(first) == before
    assert sorted(before) == ["before", "long-0", "long-1"]
    assert sorted(set(begun(second)) - {"after"}) == sorted(["long-0", "long-1", *WAITING])
    assert {attempt for line in second.marked("begun") for attempt in line.split()[1:2]} == {"1"}
