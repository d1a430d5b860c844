"""Where the processor time of a message goes, by function: one text for each kind of process, in benchmarks/profiles.

py-spy looks at consumer, one worker and master 250 times a second while a full queue is worked off. It stops a process
for each look, so that a rate measured beside it would be wrong; shares are right. Time in C (msgspec, SQLite, sockets)
counts for the Python function that calls it. Only on request (`--only profile`): it writes into the tree.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from benchmarks.bench import processes
from benchmarks.bench.daemons import POOL
from benchmarks.bench.figures import Section
from benchmarks.bench.growth import LARGE, Ground, Point
from benchmarks.bench.options import Options
from benchmarks.bench.peers import PEERS, ROOT
from tests.support.rabbitmq import running_node

FOLDER = ROOT / "benchmarks/profiles"
_TOP = 25
_KINDS = ("consumer", "worker", "master")
_POINTS = {
    "": Point("an empty ledger", messages=250_000),
    "-large-ledger": Point(f"a ledger of {LARGE:,} rows", rows=LARGE, messages=200_000),
}
"""What is added to the names of the files → the setting."""
_LOOKS_PER_S, _TAKES_S = 250, 5

Stacks = Counter[tuple[str, ...]]
"""Functions from the outermost to the one that ran → how often they were seen."""


def run(options: Options) -> Section:
    """All kinds of processes at once, for each setting."""
    section = Section("profile", "Profile: where the time of a message goes")
    (options.folder / "rabbitmq").mkdir()
    FOLDER.mkdir(exist_ok=True)
    with ExitStack() as stack:
        node = stack.enter_context(running_node(options.folder / "rabbitmq"))
        ground = Ground(node, options, stack)
        for suffix, point in _POINTS.items():
            for kind, path in _profile(ground, point, options.folder).items():
                stacks = parse(path.read_text())
                (FOLDER / f"{kind}{suffix}.txt").write_text(report(kind, point, stacks))
                busy = 100 * stacks.total() / (_LOOKS_PER_S * _TAKES_S)
                line = {"process": kind, "setting": point.name, "busy, % of the looks": busy}
                section.lines.append({**line, "most of its own": _most(stacks)})
    section.notes.append(f"all of it: {FOLDER.relative_to(ROOT)}/*.txt")
    return section


def _profile(ground: Ground, point: Point, folder: Path) -> dict[str, Path]:
    with ground.daemon(point) as daemon:
        ground.fill(daemon, point)
        found = processes.by_kind(processes.tree(daemon.pid))
        daemon.ask("resume", pool=POOL)
        recorded = _record({kind: found[kind][0] for kind in _KINDS}, folder)
        left = daemon.node.depth(daemon.queue)
    assert left, f"{point.messages} messages are too few for {_TAKES_S} s: part of the profile is of an idle daemon"
    return recorded


def _record(watched: dict[str, int], folder: Path) -> dict[str, Path]:
    """Kind → py-spy's file of collapsed stacks."""
    paths = {kind: folder / f"{kind}.raw" for kind in watched}
    options = ["--format", "raw", "--function", "--rate", str(_LOOKS_PER_S), "--duration", str(_TAKES_S)]
    spies = [
        subprocess.Popen(
            [str(PEERS / "bin/py-spy"), "record", *options, "--pid", str(pid), "--output", str(paths[kind])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for kind, pid in watched.items()
    ]
    statuses = [spy.wait(_TAKES_S + 60) for spy in spies]
    assert not any(statuses), f"py-spy ended with {statuses}: it needs root, or ptrace_scope 0"
    return paths


# ---- pure ---------------------------------------------------------------------------------------------------------


def parse(raw: str) -> Stacks:
    """py-spy's collapsed stacks: `outer (file:line);inner (file:line) COUNT`."""
    stacks: Stacks = Counter()
    for line in raw.splitlines():
        names, _, count = line.rpartition(" ")
        stacks[tuple(names.split(";"))] += int(count)
    return stacks


def own(stacks: Stacks) -> Counter[str]:
    """Function → looks at which it was the one that ran."""
    counts: Counter[str] = Counter()
    for names, count in stacks.items():
        counts[names[-1]] += count
    return counts


def total(stacks: Stacks) -> Counter[str]:
    """Function → looks at which it ran or waited for what it had called; once a look, also where it recurs."""
    counts: Counter[str] = Counter()
    for names, count in stacks.items():
        for name in set(names):
            counts[name] += count
    return counts


def way_down(stacks: Stacks) -> tuple[str, ...]:
    """What is below everything: the functions that every stack begins with."""
    first, last = min(stacks), max(stacks)
    return tuple(one for one, other in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


def report(kind: str, point: Point, stacks: Stacks) -> str:
    """The text for people. In its total times without what is below everything."""
    down = way_down(stacks)
    head = f"{kind}: {stacks.total()} looks at which it was busy, no-op handler, {datetime.now(UTC):%Y-%m-%d}"
    setting = (
        f"{point.workers} workers, prefetch {point.prefetch}, bodies of {point.size} B, quorum queue, {point.name}"
    )
    parts = [f"{head}\n{setting}\n"]
    above = Counter({name: count for name, count in total(stacks).items() if name not in down})
    for title, counts in (("own time", own(stacks)), (f"total time below {down[-1]}", above)):
        lines = [f"{100 * count / stacks.total():6.1f} %  {name}" for name, count in counts.most_common(_TOP)]
        parts.append("\n".join([title, *lines]) + "\n")
    return "\n".join(parts)


def _most(stacks: Stacks) -> str:
    ((name, count),) = own(stacks).most_common(1)
    return f"{name.partition(' ')[0]} ({100 * count / stacks.total():.0f} %)"
