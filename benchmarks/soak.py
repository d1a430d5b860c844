"""`make soak`: rides through chaos on two versions of RabbitMQ, and the table of what came of them.

The engine and its checker are the ones of tests/chaos; here they run for many messages and many faults. Needs root (a
chroot for RabbitMQ 4.0, small disks to fill). Ends with status 1 when anything was wrong; the evidence is kept then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import msgspec

from benchmarks.rides import Progress, Result, Soak, Stage, run
from tests.support.chaos.plan import OUTSIDE, Fault, Shape, draw
from tests.support.chaos.ride import Outcome, Ride
from tests.support.chaos.rig import rig
from tests.support.rabbitmq import RabbitNode

_NOTHING = Shape(messages=0, strikes=0)
_PATIENT = (Fault.ACK_TIMEOUT, Fault.DELETE_QUEUE, Fault.STOP_BROKER)
_CONNECTIONS = tuple(fault for fault in OUTSIDE if fault not in _PATIENT)
_EXPIRING = msgspec.structs.replace(_NOTHING, faults=(Fault.KILL_BROKER,), failing=1.0, bare=0.0, delay_s=5.0)


def _stage(name: str, messages: int, strikes: int, shape: Shape = _NOTHING, **changes: object) -> Stage:
    return Stage(name, messages, strikes, msgspec.structs.replace(shape, **changes))


STAGES = (
    _stage("everything, quorum, retry", 22, 24),
    _stage("everything, classic, retry", 22, 24, queue_type="classic"),
    _stage("everything, quorum, park", 22, 24, on_crash="park"),
    _stage("everything, classic, park", 22, 24, queue_type="classic", on_crash="park"),
    _stage("connection faults, quorum, retry", 4, 2, faults=_CONNECTIONS),
    _stage("connection faults, classic, park", 4, 2, faults=_CONNECTIONS, queue_type="classic", on_crash="park"),
    _stage("broker killed while delays expire", 4, 1, _EXPIRING),
    Stage(
        "the same with a classic delay queue",
        4,
        1,
        msgspec.structs.replace(_EXPIRING, classic_delays=True),
        demonstration=True,
    ),
)


def _ride(folder: Path, node: RabbitNode, shape: Shape, seed: int) -> Outcome:
    folder.mkdir()
    progress = Progress(shape.messages)
    with (folder / "output").open("w") as output, redirect_stdout(output), rig(folder, node, shape) as ready:
        return Ride(ready, shape, draw(seed, shape), progress.tell).run()


def _sums(results: list[Result]) -> Iterator[tuple[str, str, list[Outcome]]]:
    """Those of each version, demonstrations aside."""
    for version in dict.fromkeys(result.version for result in results):
        counted = [each.outcome for each in results if each.version == version and not each.stage.demonstration]
        yield f"**{version}**", "**all, but for the demonstration**", counted


_COLUMNS = {
    "messages": "messages",
    "lost": "lost",
    "duplicated": "duplicated",
    "declared": "declared re-runs",
    "overlaps": "overlaps",
    "parked": "parked",
    "bare_again": "repeated, no id",
}

if __name__ == "__main__":
    sys.exit(run(Soak("make soak", __doc__, STAGES, _ride, _COLUMNS, Fault, _sums)))
