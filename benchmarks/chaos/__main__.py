"""`python -m benchmarks.chaos`: the same faults for preforkd and its peers, and the table.

Faults: kill -9 of a random child every half second, all connections closed by the broker every four seconds; both end
when all is worked off, or when nothing has moved for a while.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.bench.peers import make_environment
from benchmarks.chaos.contestants import Contestant, field
from supervisor.system.clock import monotonic_s
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.waiting import eventually

TITLES = (
    *("program", "kills + closings", "lost", "left", "second effects", "… unannounced"),
    *("parked", "ended", "seconds"),
)
KILL_EVERY_S, CLOSE_EVERY_S = 0.5, 4.0
QUIET_S, STALLED_S, LIMIT_S = 3.0, 60.0, 300.0
_POLL_S = 0.05


class Result(msgspec.Struct, frozen=True):
    """What one contestant did. `left`: messages still in the queue when nothing moved any more; `again`: second
    effects; `told`: those whose handler could see it; `ended`: how often the program ended and was started again."""

    name: str
    kills: int
    closings: int
    ended: int
    lost: int
    left: int
    again: int
    told: int
    parked: int
    took_s: float

    @property
    def row(self) -> str:
        """A line of the table."""
        faults = f"{self.kills} + {self.closings}"
        counts = (self.lost, self.left, self.again, self.again - self.told, self.parked, self.ended)
        return f"| {self.name} | {faults} | " + " | ".join(map(str, counts)) + f" | {self.took_s:.0f} |"


class Canary:
    """One contestant under fire."""

    def __init__(self, contestant: Contestant, node: RabbitNode, effects: Path, seed: int) -> None:
        self._contestant, self._node, self._path = contestant, node, effects
        self._dice = random.Random(seed)
        self._kills = self._closings = 0

    def run(self, name: str, messages: int) -> Result:
        """Publish, wait for the first effect, strike until nothing is left to do, count."""
        self._contestant.publish(messages)
        self._contestant.look_after()
        eventually(self._size, f"{name} works")
        begun_s = now_s = moved_s = monotonic_s()
        kill_s, close_s, size, ended = now_s + KILL_EVERY_S, now_s + CLOSE_EVERY_S, 0, 0
        while now_s < begun_s + LIMIT_S and not self._over(now_s - moved_s):
            if now_s >= kill_s:
                kill_s = now_s + KILL_EVERY_S
                self._kill_one()
            if now_s >= close_s:
                close_s = now_s + CLOSE_EVERY_S
                self._node.close_all_connections()
                self._closings += 1
            threading.Event().wait(_POLL_S)
            ended, now_s = self._contestant.look_after(), monotonic_s()
            if (grown := self._size()) != size:
                size, moved_s = grown, now_s
        return self._result(name, messages, ended, moved_s - begun_s)

    def _over(self, quiet_s: float) -> bool:
        """Nothing left to do, or no hope that it will be done."""
        if quiet_s < QUIET_S:
            return False
        return quiet_s > STALLED_S or not self._left()

    def _left(self) -> int:
        return self._node.depth(self._contestant.queue) + self._node.unacked()

    def _kill_one(self) -> None:
        children = self._contestant.children()
        if children:
            with suppress(ProcessLookupError):
                os.kill(self._dice.choice(children), signal.SIGKILL)
                self._kills += 1

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def _result(self, name: str, messages: int, ended: int, took_s: float) -> Result:
        effects = [json.loads(line) for line in self._path.read_bytes().splitlines()]
        seen = Counter(name for name, _told in effects)
        told = Counter(name for name, was_told in effects if was_told)
        again = {name: count - 1 for name, count in seen.items() if count > 1}
        parked, left = self._contestant.parked(), self._left()
        return Result(
            name,
            self._kills,
            self._closings,
            ended,
            max(0, messages - len(seen) - parked - left),
            left,
            sum(again.values()),
            sum(min(count, told[name]) for name, count in again.items()),
            parked,
            took_s,
        )


def main() -> None:
    """The contestants in turn."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--messages", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    make_environment()
    with tempfile.TemporaryDirectory(prefix="preforkd-chaos-") as name:
        folder = Path(name)
        (folder / "rabbitmq").mkdir()
        with running_node(folder / "rabbitmq") as node:
            print(
                f"{arguments.messages} messages, seed {arguments.seed}, RabbitMQ {node.call('rabbit_misc:version()')}, "
            )
            print(f"{os.cpu_count()} processors, {datetime.now(UTC):%Y-%m-%d}\n")
            print(f"| {' | '.join(TITLES)} |\n| --- {'| ---: ' * (len(TITLES) - 1)}|")
            for name, place, start in field(node, folder):
                with start as contestant:
                    trial = Canary(contestant, node, place / "effects", arguments.seed)
                    print(trial.run(name, arguments.messages).row)
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
