"""What `make soak` and `make soak-fleet` share: rides on two versions of RabbitMQ, by seed, and their tables."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from supervisor.system.clock import monotonic_s
from tests.support.chaos.strikes import NODE_SETTINGS
from tests.support.debian import Unavailable
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.trixie import rabbitmq_4_root

REPORT_S = 15.0


class Outcome(Protocol):
    """What a ride came to; columns of a table are further attributes."""

    @property
    def struck(self) -> list[Any]:
        """The faults, in order."""

    @property
    def wrong(self) -> list[str]:
        """Everything that must not be, in words."""


class Stage(msgspec.Struct, frozen=True):
    """One ride on each broker. `messages`, `strikes`: its shares, in percent. `demonstration`: it may lose messages."""

    name: str
    messages: int
    strikes: int
    shape: Any
    demonstration: bool = False


class Result(msgspec.Struct, frozen=True):
    """A stage on one version of the broker."""

    version: str
    stage: Stage
    outcome: Any
    took_s: float


class Progress:
    """Says now and then how far a ride is."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._strikes = 0
        self._said_s = monotonic_s()

    def tell(self, effects: int, what: str) -> None:
        """A strike was made."""
        self._strikes += 1
        if monotonic_s() > self._said_s + REPORT_S:
            self._said_s = monotonic_s()
            say(f"  {effects} of {self._messages} messages, {self._strikes} faults, just now: {what}")


Ride = Callable[[Path, RabbitNode, Any, int], Outcome]
"""Takes one ride: an empty folder's path, the broker, the shape, the seed."""


class Soak(msgspec.Struct, frozen=True):
    """One of both. `columns`: the attributes of an outcome that its table shows, with their titles; `faults`: all."""

    program: str
    about: str | None
    stages: tuple[Stage, ...]
    ride: Ride
    columns: Mapping[str, str]
    faults: type[StrEnum]
    sums: Callable[[list[Result]], Iterable[tuple[str, str, list[Outcome]]]]


def say(text: str) -> None:
    """To people, while it goes on."""
    print(text, file=sys.stderr, flush=True)


# ---- rides ----------------------------------------------------------------------------------------------------------


def _results(soak: Soak, folder: Path, arguments: argparse.Namespace) -> Iterator[Result]:
    """Every stage whose name, or whose version of the broker, contains `only`."""
    for root in (None, rabbitmq_4_root()):
        node_folder = folder / ("3.10" if root is None else "4.0")
        node_folder.mkdir()
        with running_node(node_folder, rabbit=NODE_SETTINGS, root=root) as node:
            version = node.call("rabbit_misc:version()").strip('"')
            for number, stage in enumerate(soak.stages):
                if arguments.only not in f"{version}: {stage.name}":
                    continue
                shape = msgspec.structs.replace(
                    stage.shape,
                    messages=arguments.messages * stage.messages // 100,
                    strikes=max(1, arguments.faults * stage.strikes // 100),
                )
                say(f"RabbitMQ {version}: {stage.name}: {shape.messages} messages, {shape.strikes} faults")
                started_s = monotonic_s()
                place = folder / f"{node_folder.name}-ride-{number}"
                outcome = soak.ride(place, node, shape, arguments.seed + number)
                yield Result(version, stage, outcome, monotonic_s() - started_s)


# ---- tables ---------------------------------------------------------------------------------------------------------


def outcome_table(soak: Soak, results: list[Result]) -> Iterator[str]:
    """One line for each ride, and the sums."""
    yield f"| RabbitMQ | ride | faults | {' | '.join(soak.columns.values())} |"
    yield "| --- | --- | " + " | ".join(["---:"] * (len(soak.columns) + 1)) + " |"
    for result in results:
        yield _line(soak, result.version, result.stage.name, [result.outcome])
    for version, name, outcomes in soak.sums(results):
        yield _line(soak, version, name, outcomes)


def _line(soak: Soak, version: str, name: str, outcomes: list[Outcome]) -> str:
    sums = [sum(getattr(outcome, column) for outcome in outcomes) for column in soak.columns]
    faults = sum(len(outcome.struck) for outcome in outcomes)
    return f"| {version} | {name} | {faults} | " + " | ".join(f"{number:,}" for number in sums) + " |"


def fault_table(soak: Soak, results: list[Result]) -> Iterator[str]:
    """How often each fault was injected, by version, demonstrations aside."""
    versions = list(dict.fromkeys(result.version for result in results))
    counts: dict[str, Counter[StrEnum]] = {version: Counter() for version in versions}
    for each in results:
        if not each.stage.demonstration:
            counts[each.version].update(each.outcome.struck)
    yield "| fault | " + " | ".join(versions) + " |"
    yield "| --- | " + " | ".join("---:" for _ in versions) + " |"
    for fault in soak.faults:
        yield f"| {fault} | " + " | ".join(str(counts[version][fault]) for version in versions) + " |"


def run(soak: Soak) -> int:
    """Run it with the arguments of the command line; the exit status."""
    parser = argparse.ArgumentParser(prog=soak.program, description=soak.about)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=100_000, help="for each version of the broker")
    parser.add_argument("--faults", type=int, default=500, help="for each version of the broker")
    parser.add_argument("--only", default="", help="the rides whose version and name contain this")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix=f"preforkd-{soak.program.split()[-1]}-"))
    started_s, results = monotonic_s(), []
    try:
        for result in _results(soak, folder, arguments):
            results.append(result)
            say(f"  {'; '.join(result.outcome.wrong[:5]) or 'nothing wrong'}; {result.took_s:.0f} s")
    except Unavailable as error:
        say(f"error: {error}")
        return 1
    minutes = (monotonic_s() - started_s) / 60
    print(f"Seed {arguments.seed}, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors, {minutes:.0f} minutes.\n")
    print("\n".join([*outcome_table(soak, results), "", *fault_table(soak, results)]))
    if any(result.outcome.wrong and not result.stage.demonstration for result in results):
        say(f"error: something is wrong; logs and state are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0
