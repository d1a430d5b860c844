"""One daemon for a partition of the messages, and its volume: the state directory moves to another host under load.

I1 to I7 of docs/guarantees.md hold across hosts, because the ledger and the slots move along: the history checker finds
no fault over all hosts. After another boot the marks in the slots prove nothing, so I4 has its exception.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.crash_site import WORKERS, Point, all_points
from tests.support.daemon import Daemon, cleaned_up
from tests.support.history import charges, runs
from tests.support.hosts import Host, listeners, running_hosts
from tests.support.moving import MovingSite, moving_site
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

ROUNDS = 3
PREFETCH = 8
BOOTS = pytest.mark.parametrize("boots", [False, True], ids=["same boot", "another boot"])
POINTS = [
    point
    for point in all_points()
    if point.name
    in (
        *("worker.running-marked", "worker.outcome-marked", "consumer.decided", "consumer.tails-advanced"),
        *("consumer.amqp-settling", "consumer.amqp-published", "master.record-written", "master.exit-notice-queued"),
    )
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    with running_hosts(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory, hosts: list[Host]) -> Iterator[RabbitNode]:
    """A node that both hosts reach, each by an address of its own."""
    with running_node(tmp_path_factory.mktemp("rabbitmq"), listeners(hosts)) as node:
        yield node


def load(site: MovingSite) -> None:
    """Two batches, of which at least eight messages have been begun."""
    before = len(site.notes())
    site.send_batch()
    site.send_batch()
    eventually(lambda: len(site.notes()) > before + 16, "work has begun")


def unbegun(site: MovingSite, ids: Collection[str]) -> set[str]:
    """Those of these messages that were charged with an attempt which no handler has begun."""
    begun = {id: {run.started.attempt for run in of_one} for id, of_one in runs(site.history()).items() if id in ids}
    return {id for id, attempts in begun.items() if attempts != set(range(1, max(attempts) + 1))}


def test_a_volume_that_moves_after_a_stop_brings_all_along_and_nothing_runs_twice(
    tmp_path: Path, reached: RabbitNode, hosts: list[Host]
) -> None:
    with moving_site(tmp_path, reached, hosts, boots=True) as site, site.evidence():
        for _ in range(ROUNDS):
            load(site)
            assert site.stop() == 0
            site.move()
            site.start()
        site.settle()

        assert site.stop() == 0
        assert site.faults() == []
        assert charges(site.history()) == {}


@BOOTS
def test_a_volume_that_moves_after_a_kill_of_everything_loses_nothing_and_runs_nothing_twice_undeclared(
    tmp_path: Path, reached: RabbitNode, hosts: list[Host], boots: bool
) -> None:
    with moving_site(tmp_path, reached, hosts, boots) as site, site.evidence():
        for _ in range(ROUNDS):
            load(site)
            site.kill_all()
            site.move()
            site.start()
        site.settle()

        assert site.stop() == 0
        assert site.faults() == []
        charged = charges(site.history())
        assert sum(charged.values()) <= ROUNDS * (PREFETCH if boots else WORKERS), charged
        assert boots or not unbegun(site, charged), "I4: only what was running is charged"


@BOOTS
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_host_that_dies_at_any_step_leaves_a_volume_with_which_another_one_goes_on(
    tmp_path: Path, reached: RabbitNode, hosts: list[Host], point: Point, boots: bool
) -> None:
    with moving_site(tmp_path, reached, hosts, boots) as site, site.evidence():
        site.strike(point, whole_group=True)

        assert site.host is hosts[1], "the volume has moved"
        assert site.stop() == 0
        assert site.faults() == []


# ---- what must not be done ------------------------------------------------------------------------------------------


def beside(site: MovingSite, state: Path, stack: ExitStack) -> Daemon:
    """A second daemon, on the other host and this state directory, with the configuration of the first."""
    folder = site.directory / "beside"
    folder.mkdir()
    other = Daemon(folder, "")
    text = site.config_path.read_text().replace(f'"{site.disk}/state"', f'"{state}"')
    text = text.replace(f'"{site.runtime_dir}"', f'"{other.runtime_dir}"')
    other.config_path.write_text(text.replace(site.hosts[0].gateway, site.hosts[1].gateway))
    stack.enter_context(cleaned_up(other, start=False))
    return other


def test_a_volume_that_is_attached_twice_has_one_daemon(tmp_path: Path, reached: RabbitNode, hosts: list[Host]) -> None:
    """As far as both hosts share a kernel's locks, as pods of one node do; a block device cannot be attached twice."""
    with moving_site(tmp_path, reached, hosts) as site, ExitStack() as stack, site.evidence():
        load(site)
        hosts[1].mount(site.volume, site.disk)
        second = beside(site, site.disk / "state", stack)

        second.start(ready=False, prefix=hosts[1].prefix)

        assert second.wait() == 1
        assert "is in use" in second.log_path.read_text()
        site.settle()
        assert site.stop() == 0
        assert site.faults() == []
        hosts[1].unmount(site.disk)


def test_a_copy_of_a_live_state_directory_waits_as_a_standby_and_runs_nothing(
    tmp_path: Path, reached: RabbitNode, hosts: list[Host]
) -> None:
    with moving_site(tmp_path, reached, hosts) as site, ExitStack() as stack, site.evidence():
        hosts[1].boots("another")
        load(site)
        shutil.copytree(site.volume / "state", tmp_path / "copy", ignore=shutil.ignore_patterns("lock"))
        second = beside(site, tmp_path / "copy", stack)
        second.start(ready=False, prefix=hosts[1].prefix)
        eventually(lambda: "has a consumer already" in second.log_path.read_text(), "the copy's daemon waits")

        load(site)
        site.settle()

        assert second.events("consumer.ready") == []
        assert second.stop() == 0
        assert site.stop() == 0
        assert site.faults() == []
