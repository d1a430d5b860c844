"""The programs whose workers are killed, started, stopped and reloaded: how each is set up, and when it is ready.

Every one has a preloaded handler or, where it knows no such thing, a program of its own, that imports the same library
(requests, from the same files) and says "ready" at the last line of user code before it takes work. For preforkd
"ready" is said by the master (`worker.ready`): the worker has its link to the consumer and has said hello.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.peers import APPS, PEERS, PREFORKD, PYTHON, ROOT, environment
from benchmarks.bench.stamps import GONE, Ears, LogPipe, Stamp, until

READY = "ready"
_LIBRARY = ("requests", "urllib3", "idna", "certifi", "charset_normalizer", "*__mypyc*.so")
_END_S = 20.0


@dataclass(frozen=True)
class Setup:
    """What a program is started with. `ready`: the word of a worker that can take work; `whole`: the word that says
    that the program as a whole is ready, where there is such a word; `pipe`: its log is heard, too."""

    command: list[str]
    environment: dict[str, str]
    ready: str = READY
    whole: str = ""
    pipe: bool = False


@dataclass(frozen=True)
class Wish:
    """`folder`: for whatever the program keeps; `broker`: its URL, where it needs one."""

    folder: Path
    workers: int
    broker: str = "embedded:"


# ---- how each is set up ---------------------------------------------------------------------------------------------

_PREFORKD = """
[daemon]
state_dir = "{folder}/state"
runtime_dir = "{folder}/run"
[broker]
url = "{broker}"
[ledger]
sync = "full"
[pools.bench]
queue = "bench"
handler = "replaced_handler:run"
init = "replaced_handler:init"
path = ["{apps}", "{library}"]
workers = {workers}
retry_delays = ["100ms"]
max_attempts = 1000
"""

_SUPERVISORD = """
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
[program:worker]
command = {python} {apps}/replaced_program.py
process_name = %(process_num)s
numprocs = {workers}
autorestart = true
"""

_CIRCUS = """
[circus]
endpoint = ipc://{folder}/endpoint
pubsub_endpoint = ipc://{folder}/pubsub
[watcher:worker]
cmd = {python} {apps}/replaced_program.py
numprocesses = {workers}
copy_env = true
"""


def _filled(template: str, wish: Wish, name: str, **more: object) -> str:
    """The path of a configuration made of a template."""
    path = wish.folder / name
    places = {"folder": wish.folder, "python": PYTHON, "apps": APPS, "workers": wish.workers, "broker": wish.broker}
    path.write_text(template.format(**places, **more))
    return str(path)


def _preforkd(wish: Wish) -> Setup:
    config = _filled(_PREFORKD, wish, "preforkd.toml", library=_library(wish.folder))
    own = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*PREFORKD, "--config", config, "run"]
    return Setup(command, own, "worker.ready", "daemon.ready", pipe=True)


def _library(folder: Path) -> Path:
    """A folder with nothing but the library that the peers import: the very same files."""
    place = folder / "library"
    if not place.exists():
        place.mkdir()
        packages = next(PEERS.glob("lib/python*/site-packages"))
        for found in (path for pattern in _LIBRARY for path in packages.glob(pattern)):
            (place / found.name).symlink_to(found)
    return place


def _gunicorn(wish: Wish, preload: bool = True) -> Setup:
    more = {
        "BENCH_SOCKET": str(wish.folder / "gunicorn.sock"),
        "BENCH_WORKERS": str(wish.workers),
        "BENCH_PRELOAD": "yes" if preload else "no",
        "HOME": str(wish.folder),
    }
    command = [str(PEERS / "bin/gunicorn"), "-c", str(APPS / "replaced_gunicorn.py"), "replaced_wsgi:application"]
    return Setup(command, environment(**more))


def _gunicorn_lazy(wish: Wish) -> Setup:
    return _gunicorn(wish, preload=False)


def _supervisord(wish: Wish) -> Setup:
    return Setup([str(PEERS / "bin/supervisord"), "-c", _filled(_SUPERVISORD, wish, "supervisord.conf")], environment())


def _circus(wish: Wish) -> Setup:
    return Setup([str(PEERS / "bin/circusd"), _filled(_CIRCUS, wish, "circus.ini")], environment())


def _celery(wish: Wish) -> Setup:
    command = ["celery", "-A", "lifecycle_celery", "worker", "--pool", "prefork", "--concurrency", str(wish.workers)]
    return Setup(
        [str(PEERS / "bin" / command[0]), *command[1:]],
        environment(BENCH_BROKER=wish.broker),
        ready="child",
        whole=READY,
    )


def _dramatiq(wish: Wish) -> Setup:
    command = ["dramatiq", "lifecycle_dramatiq", "--processes", str(wish.workers), "--threads", "1"]
    return Setup([str(PEERS / "bin" / command[0]), *command[1:]], environment(BENCH_BROKER=wish.broker))


SETUPS: dict[str, Callable[[Wish], Setup]] = {
    "preforkd": _preforkd,
    "gunicorn": _gunicorn,
    "gunicorn, no preload": _gunicorn_lazy,
    "supervisord": _supervisord,
    "circus": _circus,
    "Celery": _celery,
    "dramatiq": _dramatiq,
}


# ---- one that runs --------------------------------------------------------------------------------------------------


class Program:
    """One of them, started. `ready`: the workers that can take work, each with the time since when; `gone`: those
    that have ended, and when. `first`: when a process said a word for the first time, by (word, pid); `last`:
    its last word; `counts`: how often a word was said."""

    def __init__(self, name: str, wish: Wish) -> None:
        self.name, self.wish, self.setup = name, wish, SETUPS[name](wish)
        self.ears = Ears(wish.folder)
        self.ready: dict[int, int] = {}
        self.gone: dict[int, int] = {}
        self.first: dict[tuple[str, int], int] = {}
        self.last: dict[int, str] = {}
        self.counts: Counter[str] = Counter()
        self._wholly_ready_ns = 0
        self._log = LogPipe()
        self.started_ns = time.monotonic_ns()
        self.process = self._launch()

    def _launch(self) -> subprocess.Popen[bytes]:
        surroundings = {**self.setup.environment, "BENCH_STAMPS": str(self.ears.path)}
        with (self.wish.folder / "output").open("ab") as output:
            err = self._log.write_end if self.setup.pipe else output
            self.ears.listen_to(self._log)
            return subprocess.Popen(
                self.setup.command,
                env=surroundings,
                cwd=ROOT if self.setup.pipe else self.wish.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=err,
                start_new_session=True,
            )

    # ---- hearing ----------------------------------------------------------------------------------------------------

    def hear(self, timeout_s: float) -> None:
        """Take in what is said. Fails where the program has ended."""
        self._listen(timeout_s)
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with status {self.process.returncode}:\n{self._last_words()}")

    def take(self, stamp: Stamp) -> None:
        """One stamp of this program."""
        if stamp.word == GONE:
            self.gone[stamp.pid] = stamp.at_ns
            self.ready.pop(stamp.pid, None)
        elif stamp.word == self.setup.ready:
            self._greet(stamp)
        elif stamp.word == self.setup.whole:
            self._wholly_ready_ns = stamp.at_ns
        self.first.setdefault((stamp.word, stamp.pid), stamp.at_ns)
        self.last[stamp.pid] = stamp.word
        self.counts[stamp.word] += 1

    def _greet(self, stamp: Stamp) -> None:
        """A new worker: its end will be heard, too."""
        with suppress(ProcessLookupError):  # it has ended already
            self.ears.watch(stamp.pid)
            self.ready[stamp.pid] = stamp.at_ns

    def _listen(self, timeout_s: float) -> None:
        for stamp in self.ears.hear(timeout_s):
            self.take(stamp)

    def until(self, met: Callable[[], bool], what: str) -> None:
        """Hear until then."""
        until(self.hear, met, f"{self.name}: {what}")

    def until_ready(self) -> int:
        """Wait for all its workers, and its own word where it has one; when the last of them came, in ns."""
        self.until(self._all_ready, f"{self.wish.workers} workers are ready")
        return max(self._wholly_ready_ns, *self.ready.values())

    def _all_ready(self) -> bool:
        return len(self.ready) >= self.wish.workers and bool(self._wholly_ready_ns or not self.setup.whole)

    def _last_words(self) -> str:
        return self._log.tail() + (self.wish.folder / "output").read_text(errors="replace")[-2000:]

    # ---- striking, ending -------------------------------------------------------------------------------------------

    def kill(self, pid: int) -> int:
        """kill -9 of a worker; the time right before it."""
        del self.ready[pid]
        killed_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        return killed_ns

    def stop(self) -> float:
        """SIGTERM; seconds until it and all its workers are gone."""
        pids = {self.process.pid, *self.ready}
        self.ears.watch(self.process.pid)
        began_ns = time.monotonic_ns()
        self.process.send_signal(signal.SIGTERM)
        until(self._listen, lambda: pids <= set(self.gone), f"{self.name} is gone")
        self.process.wait()
        return (max(self.gone[pid] for pid in pids) - began_ns) / 1e9

    def end(self) -> None:
        """Whatever has happened: nothing of it is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_END_S)
        if self.process.poll() is None:
            for pid in self.ready:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.ears.close()
        self._log.close()


@contextmanager
def started(name: str, wish: Wish) -> Iterator[Program]:
    """A program that is gone at the end. Its folder is kept from one start to the next."""
    wish.folder.mkdir(exist_ok=True)
    program = Program(name, wish)
    try:
        yield program
    finally:
        program.end()
