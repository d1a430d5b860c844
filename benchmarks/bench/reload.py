"""A reload of fifty workers: how long until all are new, and whether there was a moment without a ready one.

preforkd beside gunicorn, by SIGHUP for both: with preload_app gunicorn runs the old code again, without it
every worker imports the new code for itself.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.bench.figures import Section
from benchmarks.bench.options import Options
from benchmarks.bench.pairs import median
from benchmarks.bench.supervised import Program, Wish, started

WORKERS, RELOADS = 50, 4

CONTESTANTS = {
    "preforkd": "new: imported once, by a new forkserver",
    "gunicorn": "old (preload_app)",
    "gunicorn, no preload": "new: imported by each worker",
}
"""Name of the setup -> what code the workers run after it."""


@dataclass(frozen=True)
class Reload:
    """One reload. `gap_s`: the longest time without any ready worker; `fewest`: how many were ready at any time."""

    took_s: float
    fewest: int
    gap_s: float


def availability(ready: int, changes: Iterable[tuple[int, int]]) -> tuple[int, float]:
    """The fewest that were ready at any time, and the longest time in seconds with none at all. Pure.

    `ready`: at the beginning; `changes`: (when in ns, +1 or -1), in any order.
    """
    fewest, longest_ns, empty_since_ns = ready, 0, None
    for at_ns, change in sorted(changes):
        ready += change
        fewest = min(fewest, ready)
        if ready == 0:
            empty_since_ns = at_ns
        elif empty_since_ns is not None:
            longest_ns, empty_since_ns = max(longest_ns, at_ns - empty_since_ns), None
    return fewest, longest_ns / 1e9


def _reload(program: Program) -> Reload:
    """SIGHUP, until every old worker has ended and as many new ones are ready."""
    old, done = set(program.ready), program.counts["reload.done"]
    began_ns = time.monotonic_ns()
    program.process.send_signal(signal.SIGHUP)

    def over() -> bool:
        told = program.name != "preforkd" or program.counts["reload.done"] > done  # it uses more than fifty meanwhile
        return told and not old & set(program.ready) and len(program.ready) == WORKERS

    program.until(over, "all workers are new")
    came = [(at_ns, +1) for (word, _pid), at_ns in program.first.items() if word == program.setup.ready]
    went = [(at_ns, -1) for at_ns in program.gone.values()]
    changes = [change for change in came + went if change[0] >= began_ns]
    fewest, gap_s = availability(WORKERS, changes)
    return Reload((max(changes)[0] - began_ns) / 1e9, fewest, gap_s)


def run(options: Options) -> Section:
    """All of them, in turn."""
    section = Section("reload", f"Reload of {WORKERS} workers", notes=list(_NOTES))
    reloads: dict[str, list[Reload]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.rounds(2)):
        for name in CONTESTANTS:
            reloads[name] += _some(name, options)
    for name, code in CONTESTANTS.items():
        took_s = [one.took_s for one in reloads[name]]
        section.add("reload, p50", name, median(took_s), "s", code)
        section.lines.append(
            {
                "program": name,
                "code afterwards": code,
                "n": len(took_s),
                "p50 s": median(took_s),
                "max s": max(took_s),
                "fewest ready": min(one.fewest for one in reloads[name]),
                "longest gap s": max(one.gap_s for one in reloads[name]),
            }
        )
    return section


def _some(name: str, options: Options) -> list[Reload]:
    """Several in a row: with fifty idle workers each, they would disturb one another if all ran at once."""
    with started(name, Wish(options.folder / f"{list(CONTESTANTS).index(name)}", WORKERS)) as program:
        program.until_ready()
        return [_reload(program) for _ in range(RELOADS // 2)]


_NOTES = [
    f"SIGHUP with {WORKERS} idle workers until every old one has ended and {WORKERS} new ones are ready.",
    "A worker of any contestant counts as ready until its process has ended, though it takes nothing new just before.",
]
