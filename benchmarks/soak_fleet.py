"""`make soak-fleet`: rides of two and three hosts on one queue and one store, and the table of what came of them.

The engine and its checker are those of tests/fleet/test_fleet_chaos.py; here they run on two versions of RabbitMQ, for
many messages and with the faults that take most of a minute each. Needs root (namespaces, a chroot for RabbitMQ 4.0).
Ends with status 1 when anything was wrong; the evidence is kept then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from supervisor.system.clock import monotonic_s
from tests.support.chaos.strikes import NODE_SETTINGS
from tests.support.debian import Unavailable
from tests.support.fleet_chaos.plan import QUICK, Fault, Shape, draw
from tests.support.fleet_chaos.ride import Outcome, Ride
from tests.support.fleet_chaos.rig import rig
from tests.support.postgresql import running_postgresql
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.trixie import rabbitmq_4_root

REPORT_S = 15.0

_CONNECTIONS = (
    *(Fault.CLOSE_CONNECTIONS, Fault.BROKER_RESET, Fault.BROKER_SILENT, Fault.BROKER_ONE_WAY, Fault.BROKER_SLOW),
    *(Fault.STORE_RESET, Fault.STORE_SILENT, Fault.STORE_ONE_WAY, Fault.STORE_SLOW, Fault.STORE_REFUSES),
    *(Fault.CUT_HOST, Fault.KILL_BACKENDS),
)


class Stage(msgspec.Struct, frozen=True):
    """One ride on each broker. `messages`, `strikes`: its shares, in percent."""

    name: str
    messages: int
    strikes: int
    shape: Shape


def _stage(name: str, messages: int, strikes: int, **changes: object) -> Stage:
    return Stage(name, messages, strikes, msgspec.structs.replace(Shape(messages=0, strikes=0), **changes))


STAGES = (
    _stage("everything, two hosts, quorum, retry", 25, 25),
    _stage("everything, three hosts, quorum, retry", 25, 25, hosts=3),
    _stage("short faults, two hosts, classic, retry", 20, 22, queue_type="classic", faults=QUICK),
    _stage("short faults, three hosts, quorum, park", 20, 22, hosts=3, on_crash="park", faults=QUICK),
    _stage("connections alone, two hosts, quorum", 10, 6, faults=_CONNECTIONS),
)


class Result(msgspec.Struct, frozen=True):
    """A stage on one version of the broker."""

    version: str
    stage: Stage
    outcome: Outcome
    took_s: float


# ---- rides ----------------------------------------------------------------------------------------------------------


def soak(folder: Path, seed: int, messages: int, strikes: int, only: str) -> Iterator[Result]:
    """Every stage whose name, or whose version of the broker, contains `only`."""
    for root in (None, rabbitmq_4_root()):
        node_folder = folder / ("3.10" if root is None else "4.0")
        node_folder.mkdir()
        with running_node(node_folder, rabbit=NODE_SETTINGS, root=root) as node:
            version = node.call("rabbit_misc:version()").strip('"')
            for number, stage in enumerate(STAGES):
                if only not in f"{version}: {stage.name}":
                    continue
                shape = msgspec.structs.replace(
                    stage.shape,
                    messages=messages * stage.messages // 100,
                    strikes=max(1, strikes * stage.strikes // 100),
                )
                _say(f"RabbitMQ {version}: {stage.name}: {shape.messages} messages, {shape.strikes} faults")
                started_s = monotonic_s()
                outcome = _ride(folder / f"{node_folder.name}-ride-{number}", node, shape, seed + number)
                yield Result(version, stage, outcome, monotonic_s() - started_s)


def _ride(folder: Path, node: RabbitNode, shape: Shape, seed: int) -> Outcome:
    folder.mkdir()
    progress = _Progress(shape)
    with (folder / "output").open("w") as output, redirect_stdout(output), running_postgresql() as server:  # noqa: SIM117
        with rig(folder, node, server, shape) as ready:
            return Ride(ready, shape, draw(seed, shape), progress.tell).run()


class _Progress:
    """Says now and then how far a ride is."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._strikes = 0
        self._said_s = monotonic_s()

    def tell(self, effects: int, what: str) -> None:
        """A strike was made."""
        self._strikes += 1
        if monotonic_s() > self._said_s + REPORT_S:
            self._said_s = monotonic_s()
            _say(f"  {effects} of {self._shape.messages} messages, {self._strikes} faults, just now: {what}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---- tables ---------------------------------------------------------------------------------------------------------

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


def outcome_table(results: list[Result]) -> Iterator[str]:
    """One line for each ride, and the sums."""
    yield f"| RabbitMQ | ride | faults | {' | '.join(_COLUMNS.values())} |"
    yield "| --- | --- | " + " | ".join(["---:"] * (len(_COLUMNS) + 1)) + " |"
    for result in results:
        yield _line(result.version, result.stage.name, [result.outcome])
    yield _line("**both**", "**all**", [each.outcome for each in results])


def _line(version: str, name: str, outcomes: list[Outcome]) -> str:
    sums = [sum(getattr(outcome, column) for outcome in outcomes) for column in _COLUMNS]
    faults = sum(len(outcome.struck) for outcome in outcomes)
    return f"| {version} | {name} | {faults:,} | " + " | ".join(f"{number:,}" for number in sums) + " |"


def fault_table(results: list[Result]) -> Iterator[str]:
    """How often each fault was injected, by version."""
    versions = list(dict.fromkeys(result.version for result in results))
    counts: dict[str, Counter[Fault]] = {version: Counter() for version in versions}
    for each in results:
        counts[each.version].update(each.outcome.struck)
    yield "| fault | " + " | ".join(versions) + " |"
    yield "| --- | " + " | ".join("---:" for _ in versions) + " |"
    for fault in Fault:
        yield f"| {fault} | " + " | ".join(str(counts[version][fault]) for version in versions) + " |"


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="make soak-fleet", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=100_000, help="for each version of the broker")
    parser.add_argument("--faults", type=int, default=500, help="for each version of the broker")
    parser.add_argument("--only", default="", help="the rides whose version and name contain this")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="preforkd-soak-fleet-"))
    started_s, results = monotonic_s(), []
    try:
        for result in soak(folder, arguments.seed, arguments.messages, arguments.faults, arguments.only):
            results.append(result)
            _say(f"  {'; '.join(result.outcome.wrong[:5]) or 'nothing wrong'}; {result.took_s:.0f} s")
    except Unavailable as error:
        _say(f"error: {error}")
        return 1
    minutes = (monotonic_s() - started_s) / 60
    print(f"Seed {arguments.seed}, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors, {minutes:.0f} minutes.\n")
    print("\n".join([*outcome_table(results), "", *fault_table(results)]))
    if any(result.outcome.wrong for result in results):
        _say(f"error: something is wrong; logs and state are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
