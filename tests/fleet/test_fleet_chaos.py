"""Rides of a fleet on a real RabbitMQ and a real PostgreSQL, by seed: nothing is lost, and nothing runs twice unsaid.

The long form, with three hosts and on two versions of the broker, is `make soak-fleet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chaos.strikes import NODE_SETTINGS
from tests.support.fleet_chaos.plan import QUICK, Fault, Shape, draw
from tests.support.fleet_chaos.ride import Outcome, Ride
from tests.support.fleet_chaos.rig import rig
from tests.support.postgresql import PostgreSQL, running_postgresql
from tests.support.rabbitmq import RabbitNode, running_node

pytestmark = [pytest.mark.rabbitmq, pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node that may be killed: no other test uses it."""
    with running_node(tmp_path_factory.mktemp("rabbitmq"), rabbit=NODE_SETTINGS) as node:
        yield node


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A server that may be killed."""
    with running_postgresql() as server:
        yield server


def _ride(directory: Path, node: RabbitNode, server: PostgreSQL, shape: Shape, seed: int) -> Outcome:
    with rig(directory, node, server, shape) as ready:
        outcome = Ride(ready, shape, draw(seed, shape)).run()
    assert outcome.wrong == []
    return outcome


def test_no_short_fault_of_a_fleet_loses_a_message_or_repeats_one_undeclared(
    node: RabbitNode, server: PostgreSQL, tmp_path: Path
) -> None:
    faults = tuple(fault for fault in QUICK if fault is not Fault.KILL_BROKER)
    outcome = _ride(tmp_path, node, server, Shape(messages=1500, strikes=len(faults), faults=faults), seed=21)

    assert set(outcome.struck) == set(faults)
    assert (outcome.lost, outcome.undeclared, outcome.overlaps) == (0, 0, 0)
