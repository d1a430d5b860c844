"""Throughput: messages per second through a handler that does nothing, in the settings that matter.

Persistent messages of 512 bytes with an id, in a durable queue that was filled beforehand; how the rate is taken says
`gauge`. preforkd runs with every guarantee on, its peers as their documentation says; where there are several ways to
run one, all are run and the fastest of each round counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.bench.contestants import Arena, Entry, Job, arena
from benchmarks.bench.figures import Cell, Section, Target
from benchmarks.bench.options import Options
from benchmarks.bench.pairs import best, interleaved, median, ratio
from supervisor.config.schema import PoolConfig
from tests.support.rabbitmq import running_node

COUNTS = {"preforkd": 30_000, "pika": 30_000, "dramatiq": 12_000, "Celery": 2_500}
QUICK_COUNTS = {"preforkd": 20_000, "pika": 20_000, "dramatiq": 8_000, "Celery": 1_500}
"""So many messages take each contestant some seconds."""
ROUNDS, QUICK_ROUNDS = 3, 2
DEFAULT_PREFETCH = PoolConfig("p", "q", "h:h").prefetch
"""preforkd's; the bare loop has none, so it gets the same."""

Results = dict[str, list[float]]


@dataclass(frozen=True)
class Row:
    """A contestant in one setting. `peer`: whose rate stands beside it in the table, by name; `tuned`: not its default
    prefetch."""

    who: str
    setting: str
    queue: str
    prefetch: str
    setup: Callable[[Arena, str], Entry]
    peer: str = ""
    tuned: bool = False

    @property
    def name(self) -> str:
        """As other rows and targets call it: `preforkd 4 workers, classic, 64`."""
        return f"{self.who} {self.setting}, {self.queue}, {self.prefetch}".replace(" ,", ",")


# ---- who runs in which settings -------------------------------------------------------------------------------------


def _preforkd(workers: int, queue: str, prefetch: int) -> Row:
    job = Job(queue_type=queue)
    setup = lambda place, name: place.preforkd(name, job, workers, prefetch)  # noqa: E731
    return Row("preforkd", f"{workers} workers", queue, str(prefetch), setup, _pika(queue, prefetch).name)


def _pika(queue: str, prefetch: int) -> Row:
    job = Job(queue_type=queue)
    return Row("pika", "", queue, str(prefetch), lambda place, name: place.pika(name, job, prefetch))


def _dramatiq(processes: int, threads: int, prefetch: int = 0) -> Row:
    setup = lambda place, name: place.dramatiq(name, Job(), processes, threads, prefetch)  # noqa: E731
    each = prefetch or 2 * threads
    name = f"{processes} x {threads}"
    return Row("dramatiq", name, "classic", f"{processes} x {each}", setup, tuned=bool(prefetch))


def _celery(multiplier: int) -> Row:
    setup = lambda place, name: place.celery(name, Job(), 2, multiplier)  # noqa: E731
    return Row("Celery", "-c 2", "classic", f"2 x {multiplier}", setup, tuned=multiplier != 4)


def _both(queue: str, prefetches: tuple[int, ...]) -> list[Row]:
    return [row for prefetch in prefetches for row in (_preforkd(4, queue, prefetch), _pika(queue, prefetch))]


PREFETCHES = (DEFAULT_PREFETCH, 200, 500)
QUICK_ROWS = [*_both("classic", PREFETCHES), _dramatiq(2, 8)]
ROWS = [
    *_both("classic", PREFETCHES),
    *_both("quorum", PREFETCHES),
    *(_preforkd(2, "classic", 200), _preforkd(2, "quorum", 200)),
    *(_dramatiq(2, 1), _dramatiq(2, 8), _dramatiq(2, 1, 100), _dramatiq(2, 8, 100)),
    *(_celery(4), _celery(64)),
]

# ---- the run --------------------------------------------------------------------------------------------------------


def run(options: Options) -> Section:
    """The contestants in turn."""
    rows = QUICK_ROWS if options.quick else ROWS
    counts = QUICK_COUNTS if options.quick else COUNTS
    for name in ("rabbitmq", "arena"):
        (options.folder / name).mkdir()
    with (
        running_node(options.folder / "rabbitmq") as node,
        arena(node, options.folder / "arena", options.seed) as place,
    ):
        entries = {row.name: row.setup(place, row.name) for row in rows}
        turns = {row.name: partial(place.run, entries[row.name], counts[row.who]) for row in rows}
        results = interleaved(turns, options.rounds(ROUNDS, QUICK_ROUNDS))
    section = Section("throughput", "Throughput: a handler that does nothing")
    section.lines = [_line(row, results, place.sync_us) for row in rows]
    section.targets = targets(results)
    section.notes = [
        f"Median of {options.rounds(ROUNDS, QUICK_ROUNDS)} rounds; *of pika*: the ratio to the bare loop on the same "
        "queue with the same prefetch, median of the rounds; *sync*: fdatasync, p50 in µs, just before each run.",
        "Messages of 512 bytes, persistent, with an id; clients and broker share the machine's processors.",
    ]
    for row in rows:
        rounds = ", ".join(f"{rate:.0f}" for rate in results[row.name])
        section.add("throughput", row.name, median(results[row.name]), "/s", f"round by round: {rounds}")
    return section


def _line(row: Row, results: Results, sync_us: Results) -> dict[str, Cell]:
    rates = results[row.name]
    return {
        "who": f"{row.who} {row.setting}".strip(),
        "queue": row.queue,
        "prefetch": row.prefetch,
        "messages/s": median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        **({"of pika": ratio(rates, results[row.peer])} if row.peer else {}),
        "sync": round(median(sync_us[row.name])),
    }


def targets(results: Results) -> list[Target]:
    """What must be reached, judged pair by pair. Pure."""
    queues = [queue for queue in ("classic", "quorum") if _pika(queue, DEFAULT_PREFETCH).name in results]
    best_of, default = "best of prefetch 200, 500", "default prefetch"
    return [
        *(_against_pika(results, queue, (200, 500), best_of, (0.9, 1.2)) for queue in queues),
        *(_against_pika(results, queue, (DEFAULT_PREFETCH,), default, (0.8, 1.0)) for queue in queues),
        *(_against(results, "dramatiq", tuned, (2, 3)) for tuned in (True, False)),
        *(_against(results, "Celery", tuned, (10, 15)) for tuned in (True, False)),
    ]


def _against_pika(
    results: Results, queue: str, prefetches: tuple[int, ...], what: str, bounds: tuple[float, float]
) -> Target:
    ours = best(results, [_preforkd(4, queue, prefetch).name for prefetch in prefetches])
    theirs = best(results, [_pika(queue, prefetch).name for prefetch in prefetches])
    return Target(f"throughput, 4 workers, {queue}, {what}: of the bare pika loop's", ratio(ours, theirs), *bounds)


def _against(results: Results, who: str, tuned: bool, bounds: tuple[float, float]) -> Target:
    """On the classic queue, which all of them have: the best of each, or the best that each does with its default."""
    prefetches = PREFETCHES if tuned else (DEFAULT_PREFETCH,)
    ours = best(results, [_preforkd(4, "classic", prefetch).name for prefetch in prefetches])
    peers = [row.name for row in ROWS if row.who == who and row.name in results and tuned >= row.tuned]
    value = ratio(ours, best(results, peers)) if peers else None
    what = "best of each" if tuned else "default prefetch"
    return Target(f"throughput, 4 workers, classic, {what}: of {who}'s", value, *bounds)
