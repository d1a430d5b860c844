"""preforkd with 1,000 workers that have nothing to do: how long until all are there, what they cost, how soon one that
was killed is replaced. No peer: none of them has one process that looks after a thousand."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

from benchmarks.bench import processes
from benchmarks.bench.daemons import BenchDaemon, begin, pause_for, preforkd
from benchmarks.bench.figures import Section, Target
from benchmarks.bench.options import Options
from benchmarks.bench.pairs import median
from supervisor.system.clock import monotonic_s
from tests.support.rabbitmq import RabbitNode, running_node

WORKERS = 1000
_IDLE_S = 22.0
_KILLS = 10
_MIB = 2**20
_POLL_S = 0.001
_TIMEOUT_S = 20.0
_READY = b'"worker.ready"'


def run(options: Options) -> Section:
    """One daemon, looked at from all sides."""
    section = Section("crowd", "A crowd: 1,000 idle workers in one pool")
    workers, idle_s = (200, 5.0) if options.quick else (WORKERS, _IDLE_S)
    (options.folder / "rabbitmq").mkdir()
    with running_node(options.folder / "rabbitmq") as node:
        figures = _measure(node, options.folder, workers, idle_s)
    who = f"preforkd, {workers:,} workers"
    for name, value, unit in figures:
        section.lines.append({"figure": f"{name}, {unit}", who: value})
        section.add(name, who, value, unit)
    master = next(value for name, value, _unit in figures if name == "idle: master")
    name = "master with 1,000 idle workers"
    section.targets.append(Target(name, None if options.quick else master, 2.0, 0.5, True, "% of a core"))
    section.notes.append(
        f"{workers:,} workers, the handler's module has imported requests, none has run a message; idle over "
        f"{idle_s:g} s; replacements: {_KILLS} kills one after another, as the master's log tells the new one's "
        "readiness (looked at every ms)"
    )
    return section


def _measure(node: RabbitNode, folder: Path, workers: int, idle_s: float) -> list[tuple[str, float, str]]:
    settings = f"workers = {workers}\nprefetch = {workers}\ntimeout = '1s'"
    with preforkd(folder / "daemon", node, settings, "nothing") as daemon:
        started_s = monotonic_s()
        begin(daemon)
        took_s = monotonic_s() - started_s
        pause_for(1.0)
        tree = processes.tree(daemon.pid)
        crowd = processes.by_kind(tree)
        uss = processes.memory(crowd["worker"]).uss / len(crowd["worker"]) / _MIB
        figures: list[tuple[str, float, str]] = [
            ("start until all are ready", took_s, "s"),
            ("PSS of the tree", processes.memory(tree).pss / _MIB, "MiB"),
            ("USS of a worker", uss, "MiB"),
            ("USS of the master", processes.memory(crowd["master"]).uss / _MIB, "MiB"),
        ]
        idle = _idle(tree, idle_s)
        figures += [(f"idle: {kind}", per_cent, "% of a core") for kind, per_cent in idle.items()]
        figures.append(("kill -9 of one until its replacement is ready (p50)", _replacement_ms(daemon), "ms"))
    return figures


def _idle(tree: list[int], idle_s: float) -> dict[str, float]:
    """Kind → per cent of a core."""
    started_s, before = monotonic_s(), processes.cpu_us(tree)
    pause_for(idle_s)
    spent = processes.spent_us(before, processes.cpu_us(tree))
    took_us = (monotonic_s() - started_s) * 1e6
    return {kind: 100 * value / took_us for kind, value in spent.items()}


def _replacement_ms(daemon: BenchDaemon) -> float:
    """Of several workers, one after another: each is its slot's first death, which is replaced at once."""
    dice = random.Random(1)
    victims = dice.sample(processes.by_kind(processes.tree(daemon.pid))["worker"], _KILLS)
    return median([_replace_one_ms(daemon, pid) for pid in victims])


def _replace_one_ms(daemon: BenchDaemon, pid: int) -> float:
    """From the signal until the master says of any worker that it is ready."""
    with daemon.log_path.open("rb") as log:
        log.seek(0, os.SEEK_END)
        started_s = monotonic_s()
        os.kill(pid, signal.SIGKILL)
        while _READY not in log.read():
            pause_for(_POLL_S)
            assert monotonic_s() < started_s + _TIMEOUT_S, "the replacement is not ready"
    return (monotonic_s() - started_s) * 1e3
