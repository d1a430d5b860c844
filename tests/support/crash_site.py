"""A daemon to be struck at its fail-points: arms a point, provokes it, waits until all is settled, shows the history.

The points are found in the sources, and their names say what leads there: `worker.start-…`, `master.stop-…` and
`master.timeout-…` take a start, a stop and a stuck handler, all others ordinary work.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from supervisor.brokers import open_admin
from supervisor.brokers.admin import BrokerAdmin
from supervisor.brokers.names import dead_queue, parked_queue, retry_queue
from supervisor.config.schema import BrokerConfig
from supervisor.errors import ControlError
from supervisor.inbox.dialects import SQLITE, script
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.messages.message import Properties, Publication
from supervisor.system.posix import executes
from tests.support.daemon import ROOT, Daemon, cleaned_up
from tests.support.failpoints.failpoints_runtime import ARMED, FIRED, FOLDER, MARKER, WHOLE_GROUP
from tests.support.growing import JsonLines
from tests.support.history import NOTES, History, Note, faults
from tests.support.history_handlers import INBOX
from tests.support.ledgers import all_named
from tests.support.source_tree import sources
from tests.support.waiting import eventually

T = TypeVar("T")

WORKERS = 2
RETRY_S = 0.1
BATCH = [*["done"] * 14, *["fail"] * 4, *["publish"] * 4, *["crash"] * 3, *["reject"] * 2, *["once"] * 3]
STUCK = [*["done"] * 6, "hang", "stick"]
_BATCHES = 8
_SETTLED = ("done", "dead", "parked")

_POOL = f"""
workers = {WORKERS}
prefetch = 8
max_attempts = 20
retry_delays = [{RETRY_S}]
max_messages = 12
restart_backoff = ["20ms", "200ms"]
restart_intensity = [1000, "60s"]
"""
_PATIENT = 'timeout = "20s"\nmax_timeout = "20s"\n'
_IMPATIENT = 'timeout = "600ms"\nmax_timeout = "600ms"\nkill_grace = "100ms"\n'


class Point(NamedTuple):
    """A fail-point: its name, what it says about itself, and the file that it is in."""

    name: str
    says: str
    path: Path

    @property
    def process(self) -> str:
        """`worker`, `intermediate`, `forkserver`, `consumer` or `master`."""
        return self.name.partition(".")[0]

    @property
    def situation(self) -> str:
        """What leads there: `start`, `stop`, `timeout`, `reload`, `fleet`, or `work`."""
        word = self.name.partition(".")[2].partition("-")[0]
        return word if word in ("start", "stop", "timeout", "reload", "fleet") else "work"


def all_points() -> list[Point]:
    """Every fail-point there is."""
    return [
        Point(name, says, path)
        for path in sources("supervisor")
        for _indentation, name, says in MARKER.findall((ROOT / path).read_text())
    ]


class CrashSite(Daemon):
    """One state directory, and the daemons on it. `broker_url`: None for the embedded queue.

    `impatient`: with a time limit that stuck handlers soon reach. `on_crash`: as in the configuration.
    """

    def __init__(
        self,
        directory: Path,
        queue: str,
        broker_url: str | None = None,
        *,
        impatient: bool = False,
        on_crash: str = "retry",
    ) -> None:
        self.queue = queue
        self.audit_queue = f"{queue}.audit"
        self.sent: dict[str, str] = {}
        self._broker = BrokerConfig(urls=(broker_url,)) if broker_url else BrokerConfig()
        self._deeds: Sequence[str] = BATCH
        self._names = itertools.count(1)
        self._failpoints = directory / "failpoints"
        self._notes = directory / "notes"
        self._inbox = directory / "inbox.db"
        with closing(sqlite3.connect(self._inbox)) as db:
            db.executescript(f"PRAGMA journal_mode = WAL; {script(SQLITE)} CREATE TABLE effects (id TEXT NOT NULL)")
        self._failpoints.mkdir()
        self.failed = False
        self.enter = "exec "
        """Shell code after which the daemon's command follows."""
        stop_timeout = f'stop_timeout = "{0.5 if impatient else 3}s"'  # after this long a stuck former worker is ended
        limits = _IMPATIENT if impatient else _PATIENT
        super().__init__(directory, f'{_POOL}{limits}on_crash = "{on_crash}"', stop_timeout)
        self._noted = JsonLines(self._notes, Note)
        self._exits = JsonLines(self.state_dir / "exits.jsonl", dict[str, Any])
        self._logged = JsonLines(self.log_path, dict[str, Any])

    def configure(self, settings: str, daemon: str = "") -> None:
        """Write the configuration."""
        url = self._broker.urls[0] if self._broker.urls else "embedded:"
        self.config_path.write_text(
            f'[daemon]\nstate_dir = "{self.state_dir}"\nruntime_dir = "{self.runtime_dir}"\n{daemon}\n'
            f'[broker]\nurl = "{url}"\n'
            f'[pools.email]\nqueue = "{self.queue}"\nhandler = "tests.support.history_handlers:run"\n'
            f'path = ["{ROOT}"]\n{settings}\n'
            f'[pools.email.environment]\n{NOTES} = "{self._notes}"\n{INBOX} = "{self._inbox}"\n'
            f'AUDIT_QUEUE = "{self.audit_queue}"\n'
        )

    def start(self, ready: bool = True, stale_s: float | None = None, prefix: str = "") -> None:
        """Start a daemon whose processes have fail-points."""
        path = f"{ROOT / 'tests/support/failpoints'}{os.pathsep}{ROOT}"
        super().start(ready, stale_s, f"export {FOLDER}='{self._failpoints}' PYTHONPATH='{path}'; {self.enter}")
        if ready:
            self._with_admin(lambda admin: admin.ensure_queue(self.audit_queue))

    # ---- fail-points ----------------------------------------------------------------------------------------------

    def strike(self, point: Point, whole_group: bool, skip: int = 0, deeds: Sequence[str] = BATCH) -> list[str]:
        """Have this point fire once during work, and wait until everything is settled; the ids of the messages.

        `whole_group`: kill the whole process group. `skip`: how often the point is passed before.
        `deeds`: those of a batch.
        """
        self._deeds = STUCK if point.situation == "timeout" else deeds
        before = set(self.sent)
        self._disarm()
        self._choose(whole_group)
        self._provoke[point.situation](self, point, skip)
        eventually(lambda: not self._is_striking(point, whole_group), f"{point.name} has struck")
        self.settle()
        return [id for id in self.sent if id not in before]

    def storm(self, points: Iterable[Point], whole_group: bool) -> list[str]:
        """Have all these points fire if they can, within one piece of work; the ids of the messages."""
        before = set(self.sent)
        self._disarm()
        self._choose(whole_group)
        for skip, point in enumerate(points):
            self._arm(point, skip)
        self._deeds = BATCH
        self.send_batch()
        self.send_batch()
        eventually(self._settled_or_restarted, "every message is settled", 60.0)
        self._disarm()
        self.settle()
        return [id for id in self.sent if id not in before]

    def _settled_or_restarted(self) -> bool:
        if not self.running:
            self.start(ready=False)
        return self.settled

    def fired(self) -> list[str]:
        """The pid of the process that was at the armed point, with its name; [] before."""
        path = self._failpoints / FIRED
        return path.read_text().split() if path.exists() else []

    def _is_striking(self, point: Point, whole_group: bool) -> bool:
        """Whether anybody still lives whom the point is to kill."""
        assert self.fired(), f"{point.name} was never hit"
        name, pid = self.fired()
        assert name == point.name
        return executes(int(pid)) or (whole_group and self.running)

    def _choose(self, whole_group: bool) -> None:
        (self._failpoints / WHOLE_GROUP).unlink(missing_ok=True)
        if whole_group:
            (self._failpoints / WHOLE_GROUP).touch()

    def _disarm(self) -> None:
        (self._failpoints / FIRED).unlink(missing_ok=True)
        shutil.rmtree(self._failpoints / ARMED, ignore_errors=True)

    def _arm(self, point: Point, skip: int) -> None:
        fresh, tokens = self._failpoints / "fresh", self._failpoints / ARMED / point.name
        fresh.mkdir()
        for number in range(skip + 1):
            (fresh / str(number)).touch()
        tokens.parent.mkdir(exist_ok=True)
        fresh.rename(tokens)

    def _arm_once(self, point: Point) -> None:
        """The point is a rare one: the next hit counts."""
        for token in (self._failpoints / ARMED / point.name).iterdir():
            if token.name != "0":
                token.unlink()

    def _by_work(self, point: Point, skip: int) -> None:
        self._arm(point, skip)
        for _ in range(_BATCHES):
            self.send_batch()
            eventually(lambda: self.fired() or self.settled, f"{point.name} has fired, or all is settled")
            if self.fired():
                return
            self._arm_once(point)

    def _by_start(self, point: Point, skip: int) -> None:
        """After a crash in the midst of work, so that there is something to recover."""
        before = len(self.notes())
        self.send_batch()
        eventually(lambda: len(self.notes()) > before + WORKERS, "work has begun")
        self.kill()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._arm(point, 0)
        self.start(ready=False)
        eventually(self.fired, f"{point.name} has fired")

    def _by_stop(self, point: Point, skip: int) -> None:
        self._arm(point, 0)
        self.send_batch()
        self._terminate()
        eventually(lambda: not self.running, "the master has ended")

    def _by_reload(self, point: Point, skip: int) -> None:
        self._arm(point, 0)
        self.send_batch()
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        eventually(self.fired, f"{point.name} has fired")

    _provoke: dict[str, Callable[[CrashSite, Point, int], None]] = {
        "work": _by_work,
        "timeout": _by_work,
        "start": _by_start,
        "stop": _by_stop,
        "reload": _by_reload,
    }

    # ---- work -----------------------------------------------------------------------------------------------------

    def send_batch(self) -> None:
        """Publish one message for each deed."""
        orders = {f"{deed}-{next(self._names)}": deed for deed in self._deeds}
        self.sent |= orders
        messages = [Publication("", self.queue, Properties(message_id=id), do.encode()) for id, do in orders.items()]
        report = self._with_admin(lambda admin: admin.publish(messages, len(messages), lambda total: None))
        assert (report.sent, report.failed) == (len(messages), [])

    def settle(self) -> None:
        """Wait until every message has met its fate; start a new daemon where the master has died."""
        if not self.running:
            self.start()
        eventually(lambda: self.settled, "every message is settled", 40.0)

    @property
    def running(self) -> bool:
        """Whether there is a master."""
        return self.process is not None and self.process.poll() is None

    @property
    def settled(self) -> bool:
        """Whether every message is done or dead, and nothing is in flight."""
        with suppress(ControlError):
            pool = self.pool()
            counted = [pool["counters"].get(name, 0) for name in _SETTLED]
            assert sum(counted) <= len(self.sent), f"more is settled than was sent: {pool['counters']}"
            return sum(counted) == len(self.sent) and not pool["consumer"]["in_flight"] and _all_ready(pool)
        return False

    # ---- history --------------------------------------------------------------------------------------------------

    @contextmanager
    def evidence(self) -> Iterator[None]:
        """Around a test: when it fails, what the last daemons have said is printed, and this site is used no more."""
        offset = self.log_path.stat().st_size
        try:
            yield
        except BaseException:
            self.failed = True
            print(self.log_path.read_bytes()[offset:].decode())  # noqa: T201
            raise

    def faults(self, ids: Iterable[str] | None = None) -> list[str]:
        """What is wrong with the history of these messages, or of all; waits a moment for the last exit records."""
        found: list[str] = []

        def none_left() -> bool:
            found[:] = faults(self.history(ids))
            return not found

        with suppress(AssertionError):
            eventually(none_left, "a history without faults", 3.0)
        return found

    def history(self, ids: Iterable[str] | None = None) -> History:
        """The history of these messages, or of all; with all rows of the ledger where no daemon runs."""
        sent = {id: self.sent[id] for id in (self.sent if ids is None else ids)}
        return History(
            sent=sent,
            notes=[note for note in self.notes() if note.id in sent],
            exits=self._exits.all(),
            log=self._logged.all(),
            dead=self._ids_in(dead_queue(self.queue)),
            parked=self._ids_in(parked_queue(self.queue)),
            published=self._ids_in(self.audit_queue),
            rows=None if self.running else self._rows(),
            committed=[id for id in self._committed() if id in sent],
            living={*self.processes(), *self._consumers()},
        )

    def notes(self) -> list[Note]:
        """What handlers have noted."""
        return self._noted.all()

    def _committed(self) -> list[str]:
        with closing(sqlite3.connect(self._inbox, timeout=20.0)) as db:
            return [id for (id,) in db.execute("SELECT id FROM effects")]

    def _consumers(self) -> set[int]:
        """The consumer hides its environment from all but root, so the master is asked for it."""
        with suppress(ControlError):
            return {self.pool()["consumer"]["pid"]} if self.running else set()
        return set()

    def _rows(self) -> dict[str, list[str]]:
        ledger = SqliteLedger(self.state_dir / "pools/email/ledger.db", "normal")
        try:
            rows = all_named(ledger)
            return {id: [row.state for row in rows.get(id, [])] for id in self.sent}
        finally:
            ledger.close()

    def _ids_in(self, queue: str) -> set[str]:
        def look(admin: BrokerAdmin) -> set[str]:
            depth = admin.depth(queue)
            taken = admin.take(queue, depth.ready) if depth and depth.ready else []
            admin.requeue_all()
            return {delivery.properties.message_id or "" for delivery in taken}

        return self._with_admin(look)

    def forget_queues(self) -> None:
        """Take everything of ours off the broker."""
        own = (self.queue, dead_queue(self.queue), parked_queue(self.queue), retry_queue(self.queue, RETRY_S))

        def delete(admin: BrokerAdmin) -> None:
            for queue in (*own, self.audit_queue):
                admin.delete_queue(queue)

        self._with_admin(delete)

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _with_admin(self, use: Callable[[BrokerAdmin], T]) -> T:
        with open_admin(self._broker, str(self.state_dir)) as admin:
            return use(admin)

    def _terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def crash_site(directory: Path, queue: str, broker_url: str | None = None, **settings: Any) -> Iterator[CrashSite]:
    """A site with a running daemon; nothing of it runs afterwards. `settings`: as for CrashSite."""
    site = CrashSite(directory, queue, broker_url, **settings)
    try:
        with cleaned_up(site, start=True):
            yield site
    finally:
        if broker_url is not None:
            site.forget_queues()


def _all_ready(pool: dict[str, Any]) -> bool:
    services = (pool["forkserver"]["state"], pool["consumer"]["state"])
    return services == ("ready", "consuming") and all(worker["state"] == "idle" for worker in pool["workers"])
