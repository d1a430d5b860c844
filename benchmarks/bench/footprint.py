"""What it costs to be there: memory and processor time of a program with four worker processes, and nothing to do.

Each handler imports the same `requests` and has run some messages in every worker before the first reading: memory
that is shared right after a fork is no figure. Memory is read one program at a time. Then all programs are idle
together, for the same seconds.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.bench import processes
from benchmarks.bench.daemons import begin, pause_for, preforkd
from benchmarks.bench.figures import Section, Target
from benchmarks.bench.options import Options
from benchmarks.bench.pairs import interleaved, median, ratio
from benchmarks.bench.peers import APPS, PEERS, PYTHON, environment, running
from supervisor.messages.message import Properties, Publication
from supervisor.system.clock import monotonic_s
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.waiting import eventually

WORKERS = 4
_FEED = 100
_RUNS_EACH = 5
_SETTLE_S = 2.0
_IDLE_S = 25.0
_MIB = 2**20
_OURS = "preforkd"
_LEAN = "dramatiq -p 4 -t 1"


@dataclass(frozen=True)
class Program:
    """One that runs. `feed`: publishes so many messages; `runs`: where its handler leaves a word of each."""

    pid: int
    feed: Callable[[int], None]
    runs: Path

    def warm_up(self) -> None:
        """Every worker process has run some messages, and all is quiet."""
        while not self._all_have_worked():
            wanted = len(self._words()) + _FEED
            self.feed(_FEED)
            eventually(partial(self._have_run, wanted), "all messages were run", 60)
        pause_for(_SETTLE_S)

    def workers(self) -> list[int]:
        """The processes that ran messages."""
        return [int(word) for word in set(self._words())]

    def _have_run(self, count: int) -> bool:
        return len(self._words()) >= count

    def _all_have_worked(self) -> bool:
        return sum(count >= _RUNS_EACH for count in Counter(self._words()).values()) >= WORKERS

    def _words(self) -> list[str]:
        return self.runs.read_text().split() if self.runs.exists() else []


Start = Callable[[Path], AbstractContextManager[Program]]


def run(options: Options) -> Section:
    """Memory in turns, idleness together, the crowd."""
    section = Section("footprint", "Footprint: four workers that have imported requests")
    (options.folder / "rabbitmq").mkdir()
    with running_node(options.folder / "rabbitmq") as node:
        field = _field(node)
        memory = _memory(field, options)
        idle = _idleness(field, options)
    for name in field:
        pss, uss = median(memory[name, "pss"]), median(memory[name, "uss"])
        section.lines.append(
            {
                "program": name,
                "PSS of the tree, MiB": pss,
                "USS of a worker, MiB": uss,
                "idle, % of a core": idle[name],
                "processes": int(median(memory[name, "processes"])),
            }
        )
        section.add("pss", name, pss, "MiB")
        section.add("uss of a worker", name, uss, "MiB")
        section.add("idle", name, idle[name], "% of a core")
    section.targets = [
        Target("PSS, 4 workers, against dramatiq", ratio(memory[_OURS, "pss"], memory[_LEAN, "pss"]), 1.0, 0.7, True),
        Target("USS of an idle worker", median(memory[_OURS, "uss"]), 3.0, 2.0, True, "MiB"),
        Target("idle, 4 workers, whole tree", idle[_OURS], 0.5, 0.1, True, "% of a core"),
    ]
    section.notes = [
        f"memory: smaps_rollup after every worker process had run at least {_RUNS_EACH} messages and all was quiet; "
        "PSS is the tree's share of real memory (what it shares with other programs counts in part), USS the mean of "
        "what each process that runs handlers has for itself",
        f"idle: processor time of all processes of the tree, RabbitMQ aside, over {_idle_s(options):g} s, in which all "
        "programs were idle at once; heartbeats and everything else at each program's default",
    ]
    return section


# ---- measuring ----------------------------------------------------------------------------------------------------


def _memory(field: dict[str, Start], options: Options) -> dict[tuple[str, str], list[float]]:
    """Program and figure → its values, round by round. One program runs at a time."""
    found: dict[tuple[str, str], list[float]] = {}
    folders = (options.folder / f"memory-{number}" for number in range(1000))

    def look(name: str) -> float:
        with field[name](next(folders)) as program:
            program.warm_up()
            tree, workers = processes.tree(program.pid), program.workers()
            pss = processes.memory(tree).pss / _MIB
            values = {"pss": pss, "uss": processes.memory(workers).uss / len(workers) / _MIB, "processes": len(tree)}
        for figure, value in values.items():
            found.setdefault((name, figure), []).append(value)
        return pss

    interleaved({name: partial(look, name) for name in field}, options.rounds(2))
    return found


def _idle_s(options: Options) -> float:
    return 5.0 if options.quick else _IDLE_S


def _idleness(field: dict[str, Start], options: Options) -> dict[str, float]:
    """Program → per cent of one core that its tree needs to do nothing."""
    with ExitStack() as running_now:
        programs = {
            name: running_now.enter_context(start(options.folder / f"idle-{number}"))
            for number, (name, start) in enumerate(field.items())
        }
        for program in programs.values():
            program.warm_up()
        started_s = monotonic_s()
        before = {name: processes.cpu_us(processes.tree(program.pid)) for name, program in programs.items()}
        pause_for(_idle_s(options))
        after = {name: processes.cpu_us(before[name]) for name in programs}
        took_us = (monotonic_s() - started_s) * 1e6
        return {name: 100 * (sum(after[name].values()) - sum(before[name].values())) / took_us for name in programs}


# ---- who is compared ----------------------------------------------------------------------------------------------


def _field(node: RabbitNode) -> dict[str, Start]:
    celery = ("celery", "-A", "footprint_celery", "worker", "--pool", "prefork", "--concurrency", str(WORKERS))
    dramatiq = ("dramatiq", "footprint_dramatiq", "--processes", str(WORKERS), "--threads")
    return {
        _OURS: lambda folder: _preforkd(folder, node),
        "Celery -c 4": lambda folder: _peer(folder, node, "footprint_celery", *celery),
        _LEAN: lambda folder: _peer(folder, node, "footprint_dramatiq", *dramatiq, "1"),
        "dramatiq -p 4 -t 8": lambda folder: _peer(folder, node, "footprint_dramatiq", *dramatiq, "8"),
    }


@contextmanager
def _preforkd(folder: Path, node: RabbitNode) -> Iterator[Program]:
    runs = folder / "runs"
    settings = f"workers = {WORKERS}\nprefetch = 64"
    with preforkd(folder, node, settings, "run", environment={"BENCH_RUNS": runs}) as daemon:
        begin(daemon)
        yield Program(daemon.pid, lambda count: daemon.send_all(_messages(daemon.queue, count)), runs)


def _messages(queue: str, count: int) -> Iterator[Publication]:
    return (Publication("", queue, Properties(message_id=os.urandom(16).hex()), b"") for _ in range(count))


@contextmanager
def _peer(folder: Path, node: RabbitNode, app: str, program: str, *arguments: str) -> Iterator[Program]:
    folder.mkdir()
    runs, queue = folder / "runs", f"footprint-{folder.name}"
    variables = environment(BENCH_BROKER=node.url, BENCH_QUEUE=queue, BENCH_RUNS=str(runs))

    def feed(count: int) -> None:
        command = [str(PYTHON), str(APPS / f"{app}.py"), str(count)]
        subprocess.run(command, env=variables, check=True, timeout=60)

    with running([str(PEERS / "bin" / program), *arguments], variables, folder / "output") as peer:
        yield Program(peer.pid, feed, runs)
