"""Start → ready and stop → gone: preforkd beside gunicorn, supervisord, circus, Celery and dramatiq.

All with four workers that import the same library; when each is ready says supervised.py. Stop is SIGTERM while idle,
until the main process and all workers have ended, as the kernel tells (pidfd).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.figures import Section
from benchmarks.bench.options import Options
from benchmarks.bench.pairs import median
from benchmarks.bench.supervised import Wish, started
from tests.support.rabbitmq import running_node

WORKERS = 4
ROUNDS = 10
SLOW_EVERY = 4


@dataclass(frozen=True)
class Contestant:
    """`program`: one of SETUPS; `rabbitmq`: it works on a broker; `ready`: what that is for it."""

    program: str
    ready: str
    rabbitmq: bool = False
    slow: bool = False


CONTESTANTS = {
    "preforkd, embedded queue": Contestant("preforkd", "daemon.ready: it consumes, all workers have said hello"),
    "preforkd, RabbitMQ": Contestant("preforkd", "the same", rabbitmq=True),
    "gunicorn": Contestant("gunicorn", "all workers enter their loops"),
    "supervisord": Contestant("supervisord", "all programs have imported", slow=True),
    "circus": Contestant("circus", "all programs have imported", slow=True),
    "Celery, RabbitMQ": Contestant("Celery", "worker_ready: it consumes, its pool is up", rabbitmq=True, slow=True),
    "dramatiq, RabbitMQ": Contestant("dramatiq", "all processes have started their threads", rabbitmq=True, slow=True),
}


# ---- start and stop -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Life:
    """One start and stop."""

    start_s: float
    stop_s: float


def _live(contestant: Contestant, folder: Path, url: str) -> Life:
    """Start it where it was before, wait until it is ready, stop it."""
    wish = Wish(folder, WORKERS, url) if contestant.rabbitmq else Wish(folder, WORKERS)
    with started(contestant.program, wish) as program:
        start_s = (program.until_ready() - program.started_ns) / 1e9
        return Life(start_s, program.stop())


def _lives(options: Options, url: str) -> dict[str, list[Life]]:
    """The contestants in turn, every second round backwards; slow ones not in every round."""
    lives: dict[str, list[Life]] = {name: [] for name in CONTESTANTS}
    for number in range(options.rounds(ROUNDS, quick=4)):
        names = [name for name, one in CONTESTANTS.items() if number % SLOW_EVERY == 0 or not one.slow]
        for name in names if number % 2 == 0 else reversed(names):
            folder = options.folder / str(list(CONTESTANTS).index(name))
            lives[name].append(_live(CONTESTANTS[name], folder, url))
    return lives


# ---- the section ----------------------------------------------------------------------------------------------------


def run(options: Options) -> Section:
    """Starts and stops of all contestants."""
    section = Section("lifecycle", "Start and stop")
    broker = options.folder / "rabbitmq"
    broker.mkdir()
    with running_node(broker) as node:
        lives = _lives(options, node.url)
    for name, all_of_it in lives.items():
        starts, stops = [life.start_s for life in all_of_it], [life.stop_s for life in all_of_it]
        section.lines.append(
            {
                "program": name,
                "ready": CONTESTANTS[name].ready,
                "n": len(all_of_it),
                **_cells(section, name, "start", "s", starts),
                **_cells(section, name, "stop", "s", stops),
            }
        )
    section.notes = list(_NOTES)
    return section


def _cells(section: Section, who: str, what: str, unit: str, values: Sequence[float]) -> dict[str, float]:
    section.add(f"{what}, p50", who, median(values), unit)
    return {f"{what} p50 {unit}": median(values), f"{what} max {unit}": max(values)}


_NOTES = [
    "Four workers, idle; requests is imported by all. Started from the same folder again and again, as a service is. "
    f"Those that need seconds take part in every {SLOW_EVERY}th round only (n).",
    "dramatiq says when its processes have started their threads, not when these consume: its figure is flattered.",
    "*stop*: SIGTERM until the main process and all workers have ended. gunicorn and supervisord look only every 0.1 s "
    "and every second whether their workers have gone.",
]
