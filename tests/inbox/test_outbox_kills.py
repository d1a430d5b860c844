"""Writers and relays of an outbox killed at random, two at a time: what was committed arrives, and nothing else does.

PREFORKD_SOAK=<seed> kills 2,000 on each database, and prints what came of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.brokers.embedded.admin import EmbeddedAdmin
from supervisor.client import Client
from supervisor.outbox import put, relay
from supervisor.outbox.tables import TABLES
from tests.support.inbox_ways import FilePlace, Place, ServerPlace, Way
from tests.support.postgresql import PostgreSQL
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

SOAK = os.environ.get("PREFORKD_SOAK", "")
KILLS = 2_000 if SOAK else 30

pytestmark = pytest.mark.timeout(1800 if SOAK else 120)

_CONNECT = """
import json, os, random, signal, sys, threading
from importlib import import_module
from supervisor.client import Client
from supervisor.outbox import put, relay

kind, place, url = json.loads(sys.argv[1])
driver = import_module({"postgresql": "psycopg", "mysql": "pymysql", "sqlite": "sqlite3"}[kind])

def connect():
    if kind == "mysql":
        return driver.connect(**place)
    return driver.connect(place, timeout=30, isolation_level=None) if kind == "sqlite" else driver.connect(place)

def begin(db):
    if kind == "sqlite":
        db.execute("BEGIN IMMEDIATE")
"""
_KILLED = """
db = connect()
begin(db)
assert relay(db, Client(url)).published == 1
os.kill(os.getpid(), signal.SIGKILL)
"""
_NURSERY = """
notes, seed, kills = *sys.argv[2:4], int(sys.argv[4])

def die_within(seconds):
    def die():
        threading.Event().wait(seconds)
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=die, daemon=True).start()

def write(db, number):
    begin(db)
    for n in range(3):
        put(db, "orders", b"", message_id=f"{number}-{n}")
    if number % 4 == 3:
        db.rollback()
        return
    db.commit()
    with open(notes, "a") as file:
        file.write(f"{number}\\n")

def live(number, ends):
    db, client = connect(), Client(url)
    if not ends:
        die_within(random.Random(f"{seed} {number}").random() * 0.08)
    write(db, number)
    after = 0
    while True:
        begin(db)
        done = relay(db, client, limit=2, after=after)
        db.commit()
        after = done.last
        if ends and not after:
            client.close()
            os._exit(0)

def born(number, ends=False):
    pid = os.fork()
    if not pid:
        try:
            live(number, ends)
        finally:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

for number in range(0, kills, 2):
    pids = [born(number), born(number + 1)]
    assert [ended(pid) for pid in pids] == [-signal.SIGKILL] * 2
assert ended(born(kills, ends=True)) == 0
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedAdmin]:
    """An embedded queue."""
    (tmp_path / "state/embedded").mkdir(parents=True)
    with EmbeddedAdmin(str(tmp_path / "state")) as admin:
        admin.ensure_queue("orders")
        yield admin


@pytest.fixture
def place(dialect_way: Way) -> Place:
    """A database with an empty outbox."""
    made = dialect_way.place
    for statement in (*TABLES[made.dialect.name].make, "DELETE FROM preforkd_outbox"):
        made.ask(statement)
    return made


def test_a_relay_killed_between_the_confirm_and_its_commit_sends_the_row_again_with_the_same_id(
    dialect_way: Way, place: Place, broker: EmbeddedAdmin, tmp_path: Path
) -> None:
    with dialect_way.use() as use, Client(f"embedded:{tmp_path / 'state'}") as client:
        put(use.db, "orders", b"", message_id="order-1")
        use.commit()
        killed = ran(_KILLED, place, tmp_path)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert in_outbox(place) == 1
        # A server has ended the dead relay's transaction once it has noticed the end of its connection.
        eventually(lambda: relay(use.db, client).published or use.commit(), "the row is free")
        use.commit()
    assert [one.properties.message_id for one in broker.take("orders", 10)] == ["order-1"] * 2, "an id runs once"
    assert in_outbox(place) == 0


def test_kills_of_writers_and_relays_lose_no_message_and_publish_none_that_was_rolled_back(
    place: Place, broker: EmbeddedAdmin, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    notes = tmp_path / "notes"
    nursery = ran(_NURSERY, place, tmp_path, str(notes), SOAK, str(KILLS))
    assert nursery.returncode == 0, nursery.stderr[-3000:]
    arrived = Counter(str(one.properties.message_id) for one in broker.take("orders", 100_000))
    committed = {f"{number}-{n}" for number in notes.read_text().split() for n in range(3)}
    rolled_back = {f"{number}-{n}" for number in range(3, KILLS + 1, 4) for n in range(3)}
    told = {"messages": len(committed), "sent twice": sum(count > 1 for count in arrived.values())}
    for name, value in told.items():
        record_property(name, value)
    sys.stdout.write(f"{place.dialect.name}: {KILLS} kills, {told}\n")
    assert committed - arrived.keys() == set(), "lost"
    assert rolled_back & arrived.keys() == set(), "published though rolled back"
    assert in_outbox(place) == 0


def ran(code: str, place: Place, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program with a database and the queue in `folder`; it has ended when this returns."""
    given = json.dumps([place.dialect.name, _where(place), f"embedded:{folder / 'state'}"])
    command = [sys.executable, "-W", "ignore", "-c", _CONNECT + code, given, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def in_outbox(place: Place) -> int:
    ((count,),) = place.ask("SELECT count(*) FROM preforkd_outbox")
    assert isinstance(count, int)
    return count


def _where(place: Place) -> object:
    """The place as the driver's `connect` takes it."""
    if isinstance(place, FilePlace):
        return str(place.path)
    assert isinstance(place, ServerPlace)
    return place.server.dsn(place.name) if isinstance(place.server, PostgreSQL) else place.server.place(place.name)
