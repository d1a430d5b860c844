"""A daemon of two pools whose master's system calls fail as a test says (`faulty_calls.py`), and what makes it work."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from supervisor.errors import ControlError
from supervisor.system.clock import monotonic_s
from tests.support.daemon import Daemon, cleaned_up
from tests.support.faulty_calls import Order

ANSWER_S = 5.0
"""The promise is one second; a test machine may be busy."""

SETTINGS = (
    'workers = 2\nrestart_intensity = [100000, "60s"]\nrestart_backoff = ["10ms", "50ms"]\n'
    'max_attempts = 5\nretry_delays = ["100ms"]\n'
)


class Faulty(Daemon):
    """A daemon whose master fails as `order` says; two pools."""

    def __init__(self, directory: Path, disk_s: float = 0.0) -> None:
        super().__init__(directory, SETTINGS)
        text = self.config_path.read_text()
        self.config_path.write_text(text + text[text.index("[pools.email]") :].replace("email", "other"))
        self.wanted = 2
        path = directory / "order"
        self.order = Order(path)
        self.program = (sys.executable, "-m", "tests.support.faulty_daemon", str(path), str(disk_s))

    def work(self, what: str) -> None:
        """What makes the master do all it does: deaths of each kind, one worker more or less, questions."""
        self.wanted = 5 - self.wanted
        with suppress(ControlError):
            self.ask("scale", pool="email", workers=self.wanted)
        for pid in self.victims():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            self.answers(what)

    def victims(self) -> list[int]:
        """The pids of one worker, the forkserver and the consumer of a pool, and of a worker of the other one."""
        with suppress(ControlError):
            pools = self.status()["pools"]
            other = pools["other"]
            specs = [pools["email"]["workers"][0], other["workers"][0], other["forkserver"], other["consumer"]]
            return [spec["pid"] for spec in specs if spec["pid"]]
        return []

    def answers(self, what: str) -> None:
        """It answers in time, whatever fails."""
        asked_s = monotonic_s()
        with suppress(ControlError):
            self.ask("ping")
        assert monotonic_s() < asked_s + ANSWER_S, what
        assert self.process is not None and self.process.poll() is None, what

    def has_started_or_said_why(self) -> bool:
        """Whether its start is over, in one way or the other."""
        assert self.process is not None
        if self.process.poll() is not None:
            return "cannot" in self.log_path.read_text()
        with suppress(ControlError):
            return bool(self.status()["state"] == "running")
        return False

    def is_well(self) -> bool:
        """Whether all children are there in both pools; they may still be `degraded` by all those deaths."""
        with suppress(ControlError):
            pools = self.status()["pools"].values()
            idle = all(worker["state"] == "idle" for pool in pools for worker in pool["workers"])
            ready = all(pool["forkserver"]["state"] == "ready" and pool["consumer"]["pid"] for pool in pools)
            return idle and ready
        return False


@contextmanager
def faulty(directory: Path, disk_s: float = 0.0) -> Iterator[Faulty]:
    under_test = Faulty(directory, disk_s)
    with cleaned_up(under_test, start=True):
        yield under_test
