"""`make soak-fleet`: rides of two and three hosts on one queue and one store, and the table of what came of them.

The engine and its checker are those of tests/fleet/test_fleet_chaos.py; here they run on two versions of RabbitMQ, for
many messages and with the faults that take most of a minute each. Needs root (namespaces, a chroot for RabbitMQ 4.0).
Ends with status 1 when anything was wrong; the evidence is kept then.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

import msgspec

from benchmarks.rides import Progress, Result, Soak, Stage, run
from tests.support.fleet_chaos.plan import QUICK, Fault, Shape, draw
from tests.support.fleet_chaos.ride import Outcome, Ride
from tests.support.fleet_chaos.rig import rig
from tests.support.postgresql import running_postgresql
from tests.support.rabbitmq import RabbitNode

_CONNECTIONS = (
    *(Fault.CLOSE_CONNECTIONS, Fault.BROKER_RESET, Fault.BROKER_SILENT, Fault.BROKER_ONE_WAY, Fault.BROKER_SLOW),
    *(Fault.STORE_RESET, Fault.STORE_SILENT, Fault.STORE_ONE_WAY, Fault.STORE_SLOW, Fault.STORE_REFUSES),
    *(Fault.CUT_HOST, Fault.KILL_BACKENDS),
)


def _stage(name: str, messages: int, strikes: int, **changes: object) -> Stage:
    return Stage(name, messages, strikes, msgspec.structs.replace(Shape(messages=0, strikes=0), **changes))


STAGES = (
    _stage("everything, two hosts, quorum, retry", 25, 25),
    _stage("everything, three hosts, quorum, retry", 25, 25, hosts=3),
    _stage("short faults, two hosts, classic, retry", 20, 22, queue_type="classic", faults=QUICK),
    _stage("short faults, three hosts, quorum, park", 20, 22, hosts=3, on_crash="park", faults=QUICK),
    _stage("connections alone, two hosts, quorum", 10, 6, faults=_CONNECTIONS),
)


def _ride(folder: Path, node: RabbitNode, shape: Shape, seed: int) -> Outcome:
    folder.mkdir()
    progress = Progress(shape.messages)
    with (folder / "output").open("w") as output, redirect_stdout(output), running_postgresql() as server:  # noqa: SIM117
        with rig(folder, node, server, shape) as ready:
            return Ride(ready, shape, draw(seed, shape), progress.tell).run()


def _sums(results: list[Result]) -> list[tuple[str, str, list[Outcome]]]:
    """That of all rides."""
    return [("**both**", "**all**", [each.outcome for each in results])]


_COLUMNS = {
    "messages": "messages",
    "lost": "lost",
    "undeclared": "undeclared second runs",
    "overlaps": "overlapping runs",
    "declared": "declared second effects",
    "lost_hosts": "decided for a lost host",
    "parked": "parked",
    "bare_again": "repeated, no id",
}

if __name__ == "__main__":
    sys.exit(run(Soak("make soak-fleet", __doc__, STAGES, _ride, _COLUMNS, Fault, _sums)))
