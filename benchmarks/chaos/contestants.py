"""Who is compared, and how each is started, fed and asked whether it has finished. All of them have four processes.

A program that ends by itself is started again, as a service manager would do.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from benchmarks.bench.peers import PEERS
from benchmarks.chaos.effects import FILE
from supervisor.brokers.names import parked_queue
from supervisor.messages.message import Properties, Publication
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode

HERE = Path(__file__).parent
WORKERS = 4

_POOL = f"""
workers = {WORKERS}
on_crash = "{{on_crash}}"
max_attempts = 100
retry_delays = ["100ms"]
restart_backoff = ["100ms", "1s"]
restart_intensity = [100000, "1s"]
"""


class Contestant(Protocol):
    """One program at work on `queue`."""

    queue: str

    def publish(self, count: int) -> None:
        """Publish so many messages, `m-000000` and on."""

    def children(self) -> list[int]:
        """The processes that may be killed."""

    def look_after(self) -> int:
        """Start it where it does not run; how often it has ended until now."""

    def parked(self) -> int:
        """How many messages it has set aside for people."""


class Preforkd:
    """preforkd, each child of its master a target: workers, consumer, forkserver."""

    def __init__(self, daemon: RabbitDaemon) -> None:
        self._daemon = daemon
        self.queue = daemon.queue

    def publish(self, count: int) -> None:
        """Part of Contestant."""
        names = (f"m-{number:06}" for number in range(count))
        self._daemon.send_all(Publication("", self.queue, Properties(message_id=name), b"") for name in names)

    def children(self) -> list[int]:
        """Part of Contestant."""
        assert self._daemon.process is not None
        return children(self._daemon.process.pid)

    def look_after(self) -> int:
        """It never ends by itself."""
        assert self._daemon.process is not None and self._daemon.process.poll() is None
        return 0

    def parked(self) -> int:
        """Part of Contestant."""
        return self._daemon.node.depth(parked_queue(self.queue))


class Peer:
    """A program of the peers' environment. `app`: its module here; `command`: what starts its workers."""

    def __init__(self, folder: Path, node: RabbitNode, app: str, command: list[str]) -> None:
        self.queue = app
        self._app = app
        self._command = [str(PEERS / "bin" / command[0]), *command[1:]]
        self._folder = folder
        self._environment = {
            **os.environ,
            FILE: str(folder / "effects"),
            "CHAOS_BROKER": node.url,
            "CHAOS_QUEUE": self.queue,
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def publish(self, count: int) -> None:
        """Part of Contestant."""
        command = [str(PEERS / "bin/python"), str(HERE / f"{self._app}.py"), str(count)]
        subprocess.run(command, env=self._environment, check=True, timeout=120)

    def children(self) -> list[int]:
        """Part of Contestant."""
        return children(self._process.pid) if self._process is not None else []

    def look_after(self) -> int:
        """Part of Contestant."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            with (self._folder / "output").open("ab") as output:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    cwd=self._folder,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self._starts += 1
        return self._starts - 1

    def parked(self) -> int:
        """None of them does that."""
        return 0

    def close(self) -> None:
        """End it with all its processes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def children(pid: int) -> list[int]:
    """The children of a process that execute its work; helpers of multiprocessing aside."""
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [child for child in found if b"resource_tracker" not in _command_line(child)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def _preforkd(folder: Path, node: RabbitNode, on_crash: str) -> Iterator[Contestant]:
    environment = {FILE: str(folder / "effects")}
    module = "benchmarks.chaos.preforkd_handler"
    pool = _POOL.format(on_crash=on_crash)
    with rabbit_daemon(folder, node, pool, module=module, environment=environment, log="info") as daemon:
        yield Preforkd(daemon)


@contextmanager
def _peer(folder: Path, node: RabbitNode, app: str, *command: str) -> Iterator[Contestant]:
    peer = Peer(folder, node, app, list(command))
    try:
        yield peer
    finally:
        peer.close()
        with node.channel() as channel:
            channel.queue_delete(peer.queue)


def field(node: RabbitNode, folder: Path) -> Iterator[tuple[str, Path, AbstractContextManager[Contestant]]]:
    """The contestants: each has a name, a folder of its own and a start."""
    celery = ("celery", "-A", "celery_app", "worker", "--pool", "prefork", "--concurrency", str(WORKERS))
    dramatiq = ("dramatiq", "dramatiq_app", "--processes", str(WORKERS), "--threads", "1")
    starts: dict[str, Callable[[Path], AbstractContextManager[Contestant]]] = {
        'preforkd, on_crash = "retry"': lambda place: _preforkd(place, node, "retry"),
        'preforkd, on_crash = "park"': lambda place: _preforkd(place, node, "park"),
        "Celery 5.7, acks_late, reject_on_worker_lost": lambda place: _peer(place, node, "celery_app", *celery),
        "dramatiq 2.2": lambda place: _peer(place, node, "dramatiq_app", *dramatiq),
    }
    for number, (name, start) in enumerate(starts.items()):
        place = folder / str(number)
        place.mkdir()
        yield name, place, start(place)
