"""Who is compared in throughput, how each is set up, and one run of each: fill its queue, let it loose, take the rate.

preforkd's daemons wait, paused, for their turns and are resumed. The others cannot be paused: they are started when
their queue is full and killed when it is empty; their start is no part of the rate (see `gauge`).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pika

from benchmarks.bench.filler import Filler, Template, filler, plain
from benchmarks.bench.gauge import Gauge
from benchmarks.bench.machine import fdatasync_p50_us
from benchmarks.bench.peers import APPS, PEERS, PREFORKD, Peer, environment
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

HANDLERS = "benchmarks.bench.apps.preforkd_handlers"
LIMIT = 'timeout = "5s"'
"""With the default of 30 s, `preforkd check` refuses a prefetch of 500: messages might wait too long for a worker."""
START_S = 60.0
_SYNCS = 50


@dataclass(frozen=True)
class Entry:
    """A program in one of its settings. `start` lets it loose on its full queue; what it returns ends that."""

    name: str
    queue: str
    template: Template
    start: Callable[[], Callable[[], None]]
    alive: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Job:
    """What there is to do: the handler (a name of apps.work), the body's size, how many messages of it."""

    work: str = "nothing"
    size: int = 512
    queue_type: str = "classic"


class Arena:
    """A broker, a filler of queues and a gauge. Contestants are set up in it once and run as often as one likes."""

    def __init__(self, node: RabbitNode, folder: Path, seed: int, stack: ExitStack) -> None:
        self.node, self._folder, self._stack = node, folder, stack
        self._dice = random.Random(seed)
        self._gauge = Gauge(node, folder)
        self._filler: Filler = stack.enter_context(filler(node.port))
        self.sync_us: dict[str, list[float]] = {}

    def run(self, entry: Entry, count: int) -> float:
        """Messages per second. What filling has left to be written is written before, and then noted what a sync takes:
        ledger and broker depend on it."""
        self._filler.fill(entry.queue, entry.template, count, self._dice)
        assert self._gauge.held(entry.queue) == count, f"{entry.name}: its queue was not empty"
        os.sync()
        self.sync_us.setdefault(entry.name, []).append(fdatasync_p50_us(self._folder, _SYNCS))
        self._gauge.watch(entry.queue)
        stop = entry.start()
        try:
            return self._gauge.rate(entry.alive)
        finally:
            stop()

    # ---- who ---------------------------------------------------------------------------------------------------------

    def preforkd(self, name: str, job: Job, workers: int, prefetch: int, prefix: str = "") -> Entry:
        """A daemon with every guarantee on; what is not named has its default. `prefix`: shell code before it."""
        folder = self._place()
        arguments = f'{{ "x-queue-type" = "{job.queue_type}" }}'
        pool = f"workers = {workers}\nprefetch = {prefetch}\nqueue_arguments = {arguments}\n{LIMIT}"
        options = {"module": HANDLERS, "handler": job.work, "log": "info", "broker": "", "program": PREFORKD}
        daemon = self._stack.enter_context(rabbit_daemon(folder, self.node, pool, start=False, **options))
        daemon.start(prefix=prefix)
        eventually(lambda: _idle(daemon, workers), f"{workers} workers are ready", START_S)
        _pause(daemon)

        def resume() -> Callable[[], None]:
            daemon.ask("resume", pool="email")
            return lambda: _pause(daemon)

        return Entry(name, daemon.queue, plain(job.size), resume)

    def pika(self, name: str, job: Job, prefetch: int) -> Entry:
        """The bare loop."""
        queue = self._queue_name("pika")
        with self.node.channel() as channel:
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": job.queue_type})
        command = [str(PEERS / "bin/python"), str(APPS / "pika_app.py")]
        return self._peer(name, queue, plain(job.size), command, self._environment(queue, job, prefetch))

    def dramatiq(self, name: str, job: Job, processes: int, threads: int, prefetch: int = 0) -> Entry:
        """`prefetch`: of each process; 0: its default, twice its threads."""
        queue = self._queue_name("dramatiq")
        settings = self._environment(queue, job, prefetch)
        if prefetch:
            settings["dramatiq_queue_prefetch"] = str(prefetch)
        command = [str(PEERS / "bin/dramatiq"), "dramatiq_app"]
        command += ["--processes", str(processes), "--threads", str(threads)]
        template = self._captured("dramatiq_app", queue, job, settings)
        return self._peer(name, queue, template, command, settings)

    def celery(self, name: str, job: Job, processes: int, multiplier: int = 4) -> Entry:
        """`multiplier`: messages prefetched for each process; 4 is its default."""
        queue = self._queue_name("celery")
        settings = self._environment(queue, job, multiplier)
        command = [str(PEERS / "bin/celery"), "-A", "celery_app", "worker"]
        command += ["--pool", "prefork", "--concurrency", str(processes)]
        template = self._captured("celery_app", queue, job, settings)
        return self._peer(name, queue, template, command, settings)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _place(self) -> Path:
        folder = self._folder / str(len(list(self._folder.iterdir())))
        folder.mkdir()
        return folder

    def _queue_name(self, who: str) -> str:
        return f"{who}-{self._dice.getrandbits(32):08x}"

    def _environment(self, queue: str, job: Job, prefetch: int) -> dict[str, str]:
        return environment(
            BENCH_BROKER=self.node.url, BENCH_QUEUE=queue, BENCH_WORK=job.work, BENCH_PREFETCH=str(prefetch)
        )

    def _peer(self, name: str, queue: str, template: Template, command: list[str], settings: dict[str, str]) -> Entry:
        folder = self._place()
        runs: list[Peer] = []

        def start() -> Callable[[], None]:
            runs.append(Peer(command, settings, folder / "output"))
            return lambda: runs[-1].stop(signal.SIGKILL)

        return Entry(name, queue, template, start, lambda: runs[-1].must_run())

    def _captured(self, app: str, queue: str, job: Job, settings: dict[str, str]) -> Template:
        """What the peer's own publisher sends, taken from the queue that it has declared."""
        assert job.queue_type == "classic", f"{app} declares classic queues"
        command = [str(PEERS / "bin/python"), str(APPS / f"{app}.py"), str(job.size)]
        subprocess.run(command, env=settings, cwd=self._folder, check=True, timeout=START_S)
        with self.node.channel() as channel:
            _, properties, body = channel.basic_get(queue, auto_ack=True)
        assert body is not None and len(body) == job.size, f"{app}: a body of {len(body or b'')} bytes"
        return Template(properties, body, _unique(properties, body))


def _unique(properties: pika.BasicProperties, body: bytes) -> str:
    """What names a peer's message."""
    if properties.headers and "id" in properties.headers:
        return str(properties.headers["id"])
    return json.loads(body)["message_id"]


@contextmanager
def arena(node: RabbitNode, folder: Path, seed: int) -> Iterator[Arena]:
    """Everything that is set up in it is gone at the end."""
    with ExitStack() as stack:
        yield Arena(node, folder, seed, stack)


def _idle(daemon: RabbitDaemon, workers: int) -> bool:
    return sum(worker["state"] == "idle" for worker in daemon.pool()["workers"]) == workers


def _pause(daemon: RabbitDaemon) -> None:
    """Until it has left its queue."""
    daemon.ask("pause", pool="email", by="the benchmark")
    eventually(lambda: daemon.pool()["consumer"]["state"] == "paused", "preforkd is paused")
