"""Rides through chaos on a real RabbitMQ, by seed: whatever is struck, nothing is lost, and nothing runs twice unsaid.

The long form, on two versions of the broker, is `make soak`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chaos.plan import OUTSIDE, Fault, Shape, draw
from tests.support.chaos.ride import Outcome, Ride
from tests.support.chaos.rig import rig
from tests.support.chaos.strikes import NODE_SETTINGS
from tests.support.rabbitmq import RabbitNode, running_node

SLOW = {Fault.SILENCE, Fault.STOP_BROKER, Fault.ACK_TIMEOUT, Fault.DELETE_QUEUE, Fault.KILL_BROKER}
"""After a few losses in a row the daemon takes its time to connect again: these are left to the first ride."""

pytestmark = [pytest.mark.rabbitmq, pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node that may be killed: no other test uses it."""
    with running_node(tmp_path_factory.mktemp("rabbitmq"), rabbit=NODE_SETTINGS) as node:
        yield node


def _ride(directory: Path, node: RabbitNode, shape: Shape, seed: int) -> Outcome:
    with rig(directory, node, shape) as ready:
        outcome = Ride(ready, shape, draw(seed, shape)).run()
    assert outcome.wrong == []
    return outcome


def test_no_fault_loses_a_message_or_repeats_one_undeclared(node: RabbitNode, tmp_path: Path) -> None:
    """Every fault there is, with retries."""
    outcome = _ride(tmp_path, node, Shape(messages=1200, strikes=23), seed=11)

    assert set(outcome.struck) == set(Fault)
    assert (outcome.lost, outcome.duplicated, outcome.overlaps, outcome.parked) == (0, 0, 0, 0)


def test_with_park_no_message_ever_has_two_effects(node: RabbitNode, tmp_path: Path) -> None:
    """Deaths in the middle of work: what was running is parked, each of them and nothing else."""
    faults = (Fault.KILL_WORKER, Fault.KILL_GROUP, Fault.KILL_MASTER, Fault.KILL_CONSUMER, Fault.CLOSE_CONNECTIONS)
    shape = Shape(messages=2000, strikes=25, queue_type="classic", on_crash="park", faults=faults, failing=0.0)
    outcome = _ride(tmp_path, node, shape, seed=12)

    assert outcome.parked > 0
    assert (outcome.lost, outcome.duplicated, outcome.declared) == (0, 0, 0)


def test_connection_faults_alone_repeat_nothing(node: RabbitNode, tmp_path: Path) -> None:
    """Not one second effect, declared or not, while no process of the daemon is touched."""
    quick = tuple(fault for fault in OUTSIDE if fault not in SLOW)
    shape = Shape(messages=1000, strikes=len(quick), queue_type="classic", faults=quick, failing=0.0)
    outcome = _ride(tmp_path, node, shape, seed=13)

    assert (outcome.lost, outcome.duplicated, outcome.declared, outcome.overlaps) == (0, 0, 0, 0)


def test_a_broker_killed_while_delays_expire_loses_none_of_them(node: RabbitNode, tmp_path: Path) -> None:
    """Every message fails once: most of them are in the delay queue when the broker is killed."""
    shape = Shape(messages=1500, strikes=1, faults=(Fault.KILL_BROKER,), bare=0.0, failing=1.0, delay_s=1.0)
    outcome = _ride(tmp_path, node, shape, seed=14)

    assert (outcome.struck, outcome.lost, outcome.duplicated) == ([Fault.KILL_BROKER], 0, 0)
