"""A daemon whose handler is a file that tests change under it, and whose messages tell which code ran them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.control.client import ControlClient
from tests.support.daemon import ROOT, Daemon, cleaned_up

_HANDLER = """
import json, os, time
from pathlib import Path
MARKS = Path(os.environ["MARKS"])
VERSION = {version!r}
{more}

def run(message):
    with (MARKS / "runs").open("a") as runs:
        runs.write(f"{{message.id}} {{VERSION}} {{os.getpid()}}\\n")
    until = json.loads(message.body)["arguments"]
    while until and not (MARKS / until[0]).exists():
        time.sleep(0.01)
"""


class Versioned(Daemon):
    """Its pool `email`, and more pools where `pools` says so: text of further tables."""

    pools = ""

    def configure(self, settings: str, daemon: str = "") -> None:
        """Write the configuration; a reload takes it up."""
        super().configure(settings, daemon)
        text = self.config_path.read_text().replace("daemon_handlers:run", "versioned:run")
        self.config_path.write_text(text.replace(str(ROOT / "tests" / "support"), str(self.directory)) + self.pools)

    def another(self, name: str, settings: str = "workers = 1", queue: str = "") -> str:
        """The table of a further pool with the same handler."""
        return (
            f'[pools.{name}]\nqueue = "{queue or name}"\nhandler = "versioned:run"\npath = ["{self.directory}"]\n'
            f'{settings}\n[pools.{name}.environment]\nMARKS = "{self.marks}"\n'
        )

    def deploy(self, version: str, more: str = "") -> None:
        """Put another handler in the old one's place. Versions differ in length: Python trusts a cached file by
        its source's size and second.
        """
        (self.directory / "versioned.py").write_text(_HANDLER.format(version=version, more=more))

    def reload(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """Reload to the end; the result. Raises ControlError."""
        with ControlClient(self.runtime_dir) as client:
            client.ask("reload", wait=True)
            return client.next_answer(timeout_s)

    def release(self, name: str = "go") -> None:
        """What handlers wait for has happened."""
        (self.marks / name).touch()

    def runs(self) -> dict[str, str]:
        """Which version ran each message, last."""
        return dict(line.split()[:2] for line in self.marked("runs"))

    def ready(self, queue: str = "email") -> int:
        """How many messages are in a queue."""
        with open_admin(BrokerConfig(), str(self.state_dir)) as admin:
            depth = admin.depth(queue)
        return depth.ready if depth else 0

    def kill_forkserver(self) -> None:
        """kill -9 of the forkserver."""
        os.kill(self.pool()["forkserver"]["pid"], signal.SIGKILL)

    def specs(self) -> list[tuple[str, int]]:
        """Names and pids of the workers that are there."""
        return [(worker["name"], worker["pid"]) for worker in self.pool()["workers"]]

    def connection(self) -> tuple[int, int]:
        """Who consumes, and over which connection."""
        consumer = self.pool()["consumer"]
        return consumer["pid"], consumer["connection"]["opened"]


@contextmanager
def versioned(directory: Path, settings: str, daemon: str = "") -> Iterator[Versioned]:
    """A running daemon with version `one`."""
    under_test = Versioned(directory, settings, daemon)
    under_test.deploy("one")
    with cleaned_up(under_test, start=True):
        yield under_test
