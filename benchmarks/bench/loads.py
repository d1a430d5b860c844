"""Throughput under other loads: handlers that wait or compute, large bodies, a slow disk.

Measured like `throughput`. Each load compares who has the same number of messages at work at the same time, where that
can be had: a bare loop has one.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.bench.contestants import Arena, Entry, Job, arena
from benchmarks.bench.figures import Section
from benchmarks.bench.options import Options
from benchmarks.bench.pairs import interleaved, median, ratio
from benchmarks.bench.peers import APPS
from tests.support.rabbitmq import running_node

ROUNDS = 2
PLAIN, LARGE = Job(), Job(size=65536)
_SHIM = APPS / "slow_sync.c"


@dataclass(frozen=True)
class Row:
    """A contestant under one load; the first row of a load is what the others are compared with."""

    load: str
    who: str
    count: int
    setup: Callable[[Arena, str], Entry]

    @property
    def name(self) -> str:
        """Which no other row has."""
        return f"{self.load}: {self.who}"


def _waiting(load: str, work: str, counts: tuple[int, int, int]) -> list[Row]:
    """Sixteen at a time, but for the bare loop."""
    job = Job(work=work)
    ours, dramatiq, pika = counts
    return [
        Row(load, "preforkd 16 workers", ours, lambda place, name: place.preforkd(name, job, 16, 64)),
        Row(load, "dramatiq 2 x 8", dramatiq, lambda place, name: place.dramatiq(name, job, 2, 8)),
        Row(load, "pika, one at a time", pika, lambda place, name: place.pika(name, job, 64)),
    ]


def loads(shim: str) -> list[Row]:
    """Every load; `shim`: shell code that makes a disk slow. Pure."""
    computing = Job(work="spin")
    return [
        *_waiting("handler sleeps 1 ms", "sleep_1ms", (6_000, 6_000, 800)),
        *_waiting("handler sleeps 10 ms", "sleep_10ms", (2_000, 2_000, 150)),
        Row("handler computes 1 ms", "preforkd 4 workers", 2_000, lambda p, n: p.preforkd(n, computing, 4, 64)),
        Row("handler computes 1 ms", "dramatiq 4 x 1", 2_000, lambda p, n: p.dramatiq(n, computing, 4, 1)),
        Row("handler computes 1 ms", "pika, one at a time", 1_500, lambda p, n: p.pika(n, computing, 64)),
        Row("64 KiB bodies", "preforkd 4 workers", 2_500, lambda p, n: p.preforkd(n, LARGE, 4, 64)),
        Row("64 KiB bodies", "dramatiq 2 x 8", 2_500, lambda p, n: p.dramatiq(n, LARGE, 2, 8)),
        Row("64 KiB bodies", "pika", 2_500, lambda p, n: p.pika(n, LARGE, 64)),
        *(row for prefetch in (64, 500) if shim for row in _slow_disk(prefetch, shim)),
    ]


def _slow_disk(prefetch: int, shim: str) -> list[Row]:
    """Only preforkd waits for the disk: how much that costs, and what is left against who keeps no ledger."""
    load, who = f"fdatasync takes 5 ms, prefetch {prefetch}", "preforkd 4 workers"
    return [
        Row(load, who, 10_000, lambda place, name: place.preforkd(name, PLAIN, 4, prefetch, shim)),
        Row(load, f"{who}, disk as it is", 20_000, lambda place, name: place.preforkd(name, PLAIN, 4, prefetch)),
        Row(load, "pika", 20_000, lambda place, name: place.pika(name, PLAIN, prefetch)),
    ]


def run(options: Options) -> Section:
    """Load by load, the contestants in turn."""
    for name in ("rabbitmq", "arena"):
        (options.folder / name).mkdir()
    rounds = options.rounds(ROUNDS)
    rows = loads(_slow_sync(options.folder))
    with (
        running_node(options.folder / "rabbitmq") as node,
        arena(node, options.folder / "arena", options.seed) as place,
    ):
        entries = {row.name: row.setup(place, row.name) for row in rows}
        results: dict[str, list[float]] = {}
        for load in dict.fromkeys(row.load for row in rows):
            turns = {row.name: partial(place.run, entries[row.name], row.count) for row in rows if row.load == load}
            results |= interleaved(turns, rounds)
    return _section(rows, results, place.sync_us, rounds)


def _section(rows: list[Row], results: dict[str, list[float]], sync_us: dict[str, list[float]], rounds: int) -> Section:
    section = Section("loads", "Throughput under other loads")
    for row in rows:
        first = next(each for each in rows if each.load == row.load)
        rates = results[row.name]
        section.lines.append(
            {
                "load": row.load,
                "who": row.who,
                "messages/s": median(rates),
                "ratio": ratio(results[first.name], rates),
                "sync": round(median(sync_us[row.name])),
            }
        )
        section.add(row.load, row.who, median(rates), "/s")
    section.notes = [
        "Classic queue, 512 bytes and prefetch 64 (dramatiq: its default) unless said otherwise; median of "
        f"{rounds} rounds; *ratio*: preforkd's rate divided by this one.",
        "fdatasync takes 5 ms: a preloaded library lets preforkd's processes, and no others, sleep so long before each "
        "fdatasync and fsync. *sync*: what the disk itself needed, p50 in µs just before.",
    ]
    if not any("5 ms" in row.load for row in rows):
        section.notes.append("The slow disk was left out: there is no C compiler here.")
    return section


def _slow_sync(folder: Path) -> str:
    """Shell code that makes what follows wait in fdatasync and fsync; nothing where it cannot be compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return ""
    library = folder / "slow_sync.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SHIM), "-ldl", "-lpthread"], check=True
    )
    return f"export LD_PRELOAD={library}; exec "
