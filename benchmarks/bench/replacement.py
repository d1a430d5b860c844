"""kill -9 of a worker → its replacement can take work: preforkd, gunicorn, supervisord, circus.

Four workers each, a preloaded handler that imports requests. The clock runs from right before kill(2) until the new
worker is ready (supervised.py says what that is for whom); then a random pause, and the next one. preforkd runs on its
embedded queue with all guarantees on.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench.figures import Section, Target
from benchmarks.bench.options import Options
from benchmarks.bench.pairs import interleaved, percentile, ratio
from benchmarks.bench.peers import APPS, PYTHON, environment, running
from benchmarks.bench.supervised import Program, Wish, started
from supervisor.brokers import open_admin
from supervisor.brokers.admin import BrokerAdmin
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from supervisor.system.clock import monotonic_s

WORKERS = 4
ROUNDS, KILLS = 4, 25
SLOW_STINT_S = 14.5
_PAUSE_S = 0.2
_SHORT_S, _BUSY_S = 0.01, 0.02
_BACKLOG, _BATCH = 60, 40

Times = dict[str, list[float]]
"""Word of the new worker -> milliseconds from the kill until it was said, one for each kill."""


# ---- one at a time: preforkd, gunicorn ------------------------------------------------------------------------------


class Messages:
    """preforkd's work: messages that take as long as they say."""

    def __init__(self, program: Program, admin: BrokerAdmin) -> None:
        self._program = program
        self._admin = admin
        self._sent = 0

    def send(self, count: int, seconds: float) -> None:
        """Publish so many."""
        names = (f"m-{self._sent + number}" for number in range(count))
        body = str(seconds).encode()
        publications = [Publication("", "bench", Properties(message_id=name), body) for name in names]
        report = self._admin.publish(publications, 100, lambda total: None)
        assert report.sent == count, report
        self._sent += count

    def exercise(self, pid: int) -> None:
        """Let this worker finish a message: without any, its death would be one without progress, and backed off."""
        while ("ended", pid) not in self._program.first:
            self.send(WORKERS, _SHORT_S)
            self.settle()

    def settle(self) -> None:
        """Until all have ended."""
        self._program.until(lambda: self._program.counts["ended"] >= self._sent, "its messages have ended")

    def feed(self) -> None:
        """Keep all workers busy."""
        if self._sent - self._program.counts["ended"] < _BACKLOG:
            self.send(_BATCH, _BUSY_S)


@dataclass
class Strikes:
    """Kills one worker after the other. `feed`: keeps the workers busy, called all the time; `prepare`: what a new
    worker has to do before it may be killed; `words`: what is awaited from a new one besides being ready."""

    program: Program
    dice: random.Random
    feed: Callable[[], None] = lambda: None
    prepare: Callable[[int], None] = lambda pid: None
    words: tuple[str, ...] = ()
    busy: bool = False
    times: Times = field(default_factory=dict)

    def round(self, kills: int) -> float:
        """So many kills; the p50 of this round."""
        before = len(self.times.get("ready", ()))
        for _ in range(kills):
            self._strike()
            self._pause()
        return percentile(self.times["ready"][before:], 50)

    def _strike(self) -> None:
        program = self.program
        self._until(lambda: bool(self._victims()), "there is a worker to be killed")
        victim = self.dice.choice(self._victims())
        known = set(program.ready)
        killed_ns = program.kill(victim)
        program.until(lambda: len(program.ready) == WORKERS, "all workers are ready again")
        (new,) = set(program.ready) - known
        self.prepare(new)
        self._until(lambda: all((word, new) in program.first for word in self.words), f"{self.words} from {new}")
        self._note("ready", program.ready[new] - killed_ns)
        for word in self.words:
            self._note(word, program.first[word, new] - killed_ns)

    def _victims(self) -> list[int]:
        program = self.program
        return amid(program.ready, program.last, program.first) if self.busy else sorted(program.ready)

    def _pause(self) -> None:
        until_s = monotonic_s() + self.dice.uniform(0.0, _PAUSE_S)
        while (left_s := until_s - monotonic_s()) > 0:
            self.feed()
            self.program.hear(min(left_s, _BUSY_S))

    def _until(self, met: Callable[[], bool], what: str) -> None:
        def fed() -> bool:
            self.feed()
            return met()

        self.program.until(fed, what)

    def _note(self, word: str, took_ns: int) -> None:
        self.times.setdefault(word, []).append(took_ns / 1e6)


def amid(ready: Collection[int], last: Mapping[int, str], first: Collection[tuple[str, int]]) -> list[int]:
    """Who is in the middle of something, and has finished something before. Pure."""
    return sorted(pid for pid in ready if last.get(pid) == "begun" and ("ended", pid) in first)


# ---- many at a time: supervisord, circus ----------------------------------------------------------------------------


class Slow:
    """A program that looks after its workers only now and then, `period_s` apart: each worker is killed on its own, at
    a time that may fall anywhere into that period. It must have lived for `settled_s`, or it would count as failed.

    Which replacement is whose cannot be seen: the longest dead is taken for the first replaced, which leaves the mean
    as it is. It happens seldom that two are dead at once and come back in different turns.
    """

    def __init__(self, program: Program, dice: random.Random, period_s: float, settled_s: float) -> None:
        self.program = program
        self.times_ms: list[float] = []
        self._dice, self._period_s, self._settled_s = dice, period_s, settled_s
        self._due_s: dict[int, float] = {}
        self._dead_ns: deque[int] = deque()

    @property
    def whole(self) -> bool:
        """No worker is missing."""
        return not self._dead_ns

    def turn(self, killing: bool) -> None:
        """Hear who is ready, kill who is due."""
        program = self.program
        program.hear(_BUSY_S)
        for pid, ready_ns in program.ready.items():
            if pid not in self._due_s:
                self._greet(pid, ready_ns)
        due = [pid for pid in program.ready if killing and monotonic_s() >= self._due_s[pid]]
        for pid in due:
            self._dead_ns.append(program.kill(pid))

    def reset(self) -> None:
        """A new stint: the time of each worker is drawn again."""
        self._due_s.clear()

    def _greet(self, pid: int, ready_ns: int) -> None:
        if self._dead_ns:
            self.times_ms.append((ready_ns - self._dead_ns.popleft()) / 1e6)
        self._due_s[pid] = monotonic_s() + self._settled_s + self._dice.uniform(0.0, self._period_s)


def _stint(slow: Sequence[Slow], seconds: float) -> float:
    """All of them side by side for so long: what they need of a processor is little. Ends when no worker is missing."""
    until_s = monotonic_s() + seconds
    for one in slow:
        one.reset()
    while (killing := monotonic_s() < until_s) or not all(one.whole for one in slow):
        for one in slow:
            one.turn(killing)
    return 0.0


# ---- the section ----------------------------------------------------------------------------------------------------


@contextmanager
def _messages(program: Program) -> Iterator[Messages]:
    with open_admin(BrokerConfig(), str(program.wish.folder / "state")) as admin:
        yield Messages(program, admin)


def _busy_gunicorn(strikes: Strikes, kills: int) -> float:
    """A round with requests on the way."""
    folder = strikes.program.wish.folder
    command = [str(PYTHON), str(APPS / "replaced_requester.py"), str(folder / "gunicorn.sock"), f"/{_BUSY_S}"]
    with running([*command, str(WORKERS + 2)], environment(), folder / "requester"):
        return strikes.round(kills)


def _busy_preforkd(strikes: Strikes, messages: Messages, kills: int) -> float:
    """A round with a backlog of messages; what is left of it is worked off."""
    took_ms = strikes.round(kills)
    messages.settle()
    return took_ms


def run(options: Options) -> Section:
    """All of them, in turn."""
    rounds, kills = options.rounds(ROUNDS, quick=2), KILLS
    with ExitStack() as stack:
        names = ("preforkd", "gunicorn") if options.quick else ("preforkd", "gunicorn", "supervisord", "circus")
        programs = {name: stack.enter_context(started(name, Wish(options.folder / name, WORKERS))) for name in names}
        for program in programs.values():
            program.until_ready()
        preforkd, gunicorn = programs["preforkd"], programs["gunicorn"]
        messages = stack.enter_context(_messages(preforkd))
        for pid in preforkd.ready:
            messages.exercise(pid)
        dice = {name: random.Random(f"{options.seed} {name}") for name in (*names, "busy")}
        idle = Strikes(preforkd, dice["preforkd"], prepare=messages.exercise, words=("init",))
        idle_gunicorn = Strikes(gunicorn, dice["gunicorn"])
        busy = Strikes(preforkd, dice["busy"], messages.feed, words=("init", "begun"), busy=True)
        busy_gunicorn = Strikes(gunicorn, dice["busy"], words=("begun",), busy=True)
        slow = [Slow(programs[name], dice[name], *_PERIODS[name]) for name in names if name in _PERIODS]
        p50s = interleaved(
            {
                "preforkd": lambda: idle.round(kills),
                "gunicorn": lambda: idle_gunicorn.round(kills),
                "preforkd, busy": lambda: _busy_preforkd(busy, messages, kills),
                "gunicorn, busy": lambda: _busy_gunicorn(busy_gunicorn, kills),
                "supervisord, circus": lambda: _stint(slow, SLOW_STINT_S),
            },
            rounds,
        )
    section = Section("replacement", "Replacement: kill -9 of a worker until the next one is ready")
    _tabulate(section, {_IDLE: idle, _BUSY: busy}, {_IDLE: idle_gunicorn, _BUSY: busy_gunicorn})
    for one in slow:
        _row(section, one.program.name, _IDLE, "ready", one.times_ms)
    section.targets = [
        Target("replacement p50, against gunicorn", ratio(p50s["preforkd"], p50s["gunicorn"]), 1.0, 0.6, at_most=True),
        Target("… in mid-work", ratio(p50s["preforkd, busy"], p50s["gunicorn, busy"]), 1.0, 0.6, at_most=True),
    ]
    delayed = _backed_off(options.folder / "preforkd")
    section.notes = [*_NOTES, f"Replacements of preforkd that were backed off: {delayed} (must be 0)."]
    return section


_PERIODS = {"supervisord": (1.0, 1.0), "circus": (5.0, 0.0)}
"""How often each looks after its workers, and how long a worker must have lived (startsecs), as they come."""

_IDLE, _BUSY = "idle", "in mid-work"
_WORDS = {
    "ready": "ready",
    "init": "init hook runs",
    "begun": "first work begun",
}


def _tabulate(section: Section, ours: dict[str, Strikes], theirs: dict[str, Strikes]) -> None:
    for name, all_strikes in (("preforkd", ours), ("gunicorn", theirs)):
        for state, strikes in all_strikes.items():
            for word, times_ms in strikes.times.items():
                _row(section, name, state, word, times_ms)


def _row(section: Section, who: str, state: str, word: str, times_ms: list[float]) -> None:
    p50, p99 = percentile(times_ms, 50), percentile(times_ms, 99)
    section.lines.append(
        {
            "program": who,
            "workers": state,
            "until": _WORDS[word],
            "kills": len(times_ms),
            "p50 ms": p50,
            "p99 ms": p99,
            "max ms": max(times_ms),
        }
    )
    section.add(f"{state}, {word}, p50", who, p50, "ms")
    section.add(f"{state}, {word}, p99", who, p99, "ms")


def _backed_off(folder: Path) -> int:
    """How many of preforkd's replacements had to wait: there must be none, or something else was measured."""
    records = map(json.loads, (folder / "state/exits.jsonl").read_text().splitlines())
    return sum(bool(record["restart_in_s"]) for record in records)


_NOTES = [
    "Four workers, one random worker killed at a time, then a random pause of 0 to 200 ms. The clock runs from right "
    "before kill(2).",
    "*ready*: for preforkd the master's `worker.ready` line as this benchmark has read it: the worker has said hello "
    "to its consumer. For gunicorn post_worker_init, the last hook before the worker's loop; for "
    "supervisord and circus the last line of the program before it waits. preforkd's *init hook* is the equivalent "
    "line of user code.",
    "An idle worker of preforkd finishes a message before it is killed: repeated deaths without progress are backed "
    "off on purpose, and this is about the first replacement. Nothing alike is done for the others.",
    "*in mid-work*: every worker has messages (requests) of 20 ms one after another, and the one killed is in the "
    "middle of one.",
    "preforkd runs on the embedded queue; each exit is recorded, and the consumer gets its exit notice, before the "
    "replacement. gunicorn: sync workers, preload_app.",
    "supervisord and circus know no preloading: each worker imports for itself. They look after their workers every "
    "1 s and every 5 s (their defaults); their four workers are killed independently, at times spread over that "
    "period, supervisord's after its startsecs of 1 s, and both side by side; hence fewer kills for circus.",
]
