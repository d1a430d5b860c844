"""How the cost of a message grows: with workers, prefetch, the ledger's size and the size of a body.

Processor time per message of consumer, workers and the whole tree, from a full queue until the broker has nothing of it
any more; the daemon is up before, paused, so that no start is in it. A handler that does nothing, a durable quorum
queue, persistent messages. Then the one question that decides how long a daemon stays fast: throughput with ten million
rows in the ledger against an empty one, in turns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks.bench import processes
from benchmarks.bench.daemons import POOL, BenchDaemon, begin, preforkd
from benchmarks.bench.figures import Section, Target
from benchmarks.bench.filler import filler, plain
from benchmarks.bench.gauge import Gauge
from benchmarks.bench.ledgers import FOLDER, disk_bytes, ledger
from benchmarks.bench.machine import fdatasync_p50_us
from benchmarks.bench.options import Options
from benchmarks.bench.pairs import interleaved, median, ratio
from benchmarks.bench.throughput import DEFAULT_PREFETCH
from supervisor.messages.message import Properties, Publication
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.waiting import eventually

_WORKERS, _PREFETCH, _SIZE = 4, 200, 512
_MESSAGES = 15_000
_FRAME_BYTES = 100_000
"""Bodies above that do not fit into one frame, which is all that the filler makes."""
LARGE = 10_000_000
_ROUNDS = 3


@dataclass(frozen=True)
class Point:
    """One setting; what differs from the usual one is what is looked at."""

    name: str
    workers: int = _WORKERS
    prefetch: int = _PREFETCH
    rows: int = 0
    size: int = _SIZE
    messages: int = _MESSAGES
    keep_max: int = 1_000_000_000

    @property
    def pool_settings(self) -> str:
        """The lines of the pool's table."""
        return (
            f"workers = {self.workers}\nprefetch = {self.prefetch}\ntimeout = '1s'\nmax_messages = 0\n"
            'queue_arguments = { "x-queue-type" = "quorum" }'
        )

    @property
    def ledger_settings(self) -> str:
        """The ledger's table: rows are removed by their number only, not by their age."""
        return f'[ledger]\nkeep = "3650d"\nkeep_max = {self.keep_max}\n'


POINTS = (
    *(Point(f"workers {count}", workers=count) for count in (1, 2, 4, 8, 16, 64)),
    *(Point(f"prefetch {count}", prefetch=count, messages=min(_MESSAGES, 1000 + 200 * count)) for count in (1, 4, 16)),
    *(Point(f"prefetch {count}", prefetch=count) for count in (64, DEFAULT_PREFETCH, 200, 500, 1000)),
    *(Point(f"ledger of {rows:,} rows", rows=rows) for rows in (0, 100_000, 1_000_000, LARGE)),
    Point("ledger of 1,000,000 rows, full (keep_max)", rows=1_000_000, keep_max=1_000_000),
    *(Point(f"body of {size:,} B", size=size) for size in (64, 512, 4096, 16384)),
    Point("body of 64 KiB", size=65536, messages=4000),
    Point("body of 256 KiB", size=262_144, messages=1000),
)
QUICK = tuple(point for point in POINTS if point.name in ("workers 4", "prefetch 64", "ledger of 100,000 rows"))


@dataclass(frozen=True)
class Cost:
    """What one message has cost, by kind of process, and how many a second there were."""

    rate: float
    cpu_us: dict[str, float]


class Ground:
    """A broker with daemons on it, one queue each."""

    def __init__(self, node: RabbitNode, options: Options, stack: ExitStack) -> None:
        self._node, self._folder = node, options.folder
        self._dice = random.Random(options.seed)
        self._filler = stack.enter_context(filler(node.port))
        self._gauge = Gauge(node, options.folder)
        self.build_s = 0.0
        self.largest_bytes = 0

    @contextmanager
    def daemon(self, point: Point) -> Iterator[BenchDaemon]:
        """A paused daemon with these workers, this prefetch, this ledger."""
        folder = self._folder / f"daemon-{self._dice.getrandbits(32):08x}"
        with preforkd(folder, self._node, point.pool_settings, "nothing", more=point.ledger_settings) as daemon:
            if point.rows:
                self._lay_ledger(daemon, point.rows)
            begin(daemon)
            pause(daemon)
            yield daemon

    def load(self, daemon: BenchDaemon, point: Point) -> Cost:
        """Fill its queue, let it loose, wait for the end, pause it."""
        self.fill(daemon, point)
        self._gauge.watch(daemon.queue)
        before = processes.cpu_us(processes.tree(daemon.pid))
        daemon.ask("resume", pool=POOL)
        rate = self._gauge.rate(lambda: None)
        spent = processes.spent_us(before, processes.cpu_us(before))
        pause(daemon)
        return Cost(rate, {kind: value / point.messages for kind, value in spent.items()})

    def fill(self, daemon: BenchDaemon, point: Point) -> None:
        """Its queue holds so many messages."""
        if point.size <= _FRAME_BYTES:
            self._filler.fill(daemon.queue, plain(point.size), point.messages, self._dice)
            return
        body = bytes(point.size)
        names = (f"{self._dice.getrandbits(128):032x}" for _ in range(point.messages))
        daemon.send_all(Publication("", daemon.queue, Properties(message_id=name), body) for name in names)

    def _lay_ledger(self, daemon: BenchDaemon, rows: int) -> None:
        folder, took_s = ledger(rows)
        self.build_s = max(self.build_s, took_s)
        self.largest_bytes = max(self.largest_bytes, disk_bytes(folder))
        pools = daemon.state_dir / "pools"
        pools.mkdir(parents=True)
        (pools / POOL).symlink_to(folder)


def run(options: Options) -> Section:
    """The points, then the two ledgers in turns."""
    section = Section("growth", "Growth: what a message costs")
    (options.folder / "rabbitmq").mkdir()
    with ExitStack() as stack:
        node = stack.enter_context(running_node(options.folder / "rabbitmq"))
        ground = Ground(node, options, stack)
        for point in QUICK if options.quick else POINTS:
            with ground.daemon(point) as daemon:
                _note(section, point, ground.load(daemon, point))
        if not options.quick:
            _compare(section, ground, options)
    section.notes += _notes(options, ground)
    return section


def _note(section: Section, point: Point, cost: Cost) -> None:
    tree = sum(cost.cpu_us.values())
    line = {"setting": point.name, "messages/s": round(cost.rate), "tree, CPU µs per message": tree}
    shown = {f"{kind}": cost.cpu_us[kind] for kind in ("consumer", "worker", "master", "forkserver")}
    section.lines.append({**line, **shown})
    section.add("rate", point.name, cost.rate, "/s")
    for kind, value in {"tree": tree, **shown}.items():
        section.add(f"cpu of {kind}", point.name, value, "µs per message")


def _compare(section: Section, ground: Ground, options: Options) -> None:
    """Ten million rows against none, for the usual prefetch of this section and for the default."""
    for prefetch in (_PREFETCH, DEFAULT_PREFETCH):
        with ExitStack() as stack:
            turns: dict[str, Callable[[], float]] = {}
            for rows in (0, LARGE):
                point = Point(f"{rows:,} rows", prefetch=prefetch, rows=rows)
                daemon = stack.enter_context(ground.daemon(point))
                turns[point.name] = partial(_rate, ground, daemon, point)
            rates = interleaved(turns, options.rounds(_ROUNDS))
        empty, full = rates.values()
        name = f"ledger of {LARGE:,} rows against an empty one, prefetch {prefetch}"
        for who, values in rates.items():
            section.add(f"rate, prefetch {prefetch}", who, median(values), "/s", f"median of {len(values)}")
        section.targets.append(Target(name, ratio(full, empty), 0.8, 0.95))


def _rate(ground: Ground, daemon: BenchDaemon, point: Point) -> float:
    return ground.load(daemon, point).rate


def _notes(options: Options, ground: Ground) -> list[str]:
    made = f"made in {ground.build_s:.0f} s in this run" if ground.build_s else "kept from an earlier run"
    place, large = FOLDER.relative_to(FOLDER.parents[1]), ground.largest_bytes / 2**30
    return [
        f"unless a row says otherwise: {_WORKERS} workers, prefetch {_PREFETCH}, an empty ledger, bodies of {_SIZE} B; "
        f"up to {_MESSAGES:,} messages a row; no recycling, so that the same processes are there at the end",
        "a full ledger forgets an old row for each new one",
        f"the ledgers have random 24-byte keys and ids of 36 characters; the largest takes {large:.1f} GiB in {place} "
        f"({made}; `make clean` removes it) and is in the page cache",
        f"fdatasync p50 {fdatasync_p50_us(options.folder):.0f} µs",
    ]


def pause(daemon: BenchDaemon) -> None:
    """Until it has left its queue."""
    daemon.ask("pause", pool=POOL, by="the benchmark")
    eventually(lambda: daemon.pool()["consumer"]["state"] == "paused", "preforkd is paused")
