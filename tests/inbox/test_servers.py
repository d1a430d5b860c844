"""The servers that these tests start: they answer, and a client may die without their notice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from supervisor.system.posix import executes, is_stopped
from tests.support.children import snippet
from tests.support.database_server import DatabaseServer, bound_to_this_run
from tests.support.held_line import held_line
from tests.support.mariadb import MariaDB
from tests.support.postgresql import PostgreSQL
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

_PSYCOPG = """
import psycopg, signal, sys
db = psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=postgres dbname={sys.argv[2]}")
db.execute("INSERT INTO t VALUES (1)")
print("open", flush=True)
signal.pause()
"""
_PYMYSQL = """
import pymysql, signal, sys
db = pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", database=sys.argv[2])
db.cursor().execute("INSERT INTO t VALUES (1)")
print("open", flush=True)
signal.pause()
"""
_OPEN = {
    PostgreSQL: "SELECT 1 FROM pg_stat_activity WHERE datname = '{}' AND state = 'idle in transaction'",
    MariaDB: "SELECT 1 FROM information_schema.processlist WHERE db = '{}'",
}


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    made: DatabaseServer = request.getfixturevalue(request.param)
    return made


def test_a_transaction_outlives_its_client_behind_a_held_line_until_the_line_tells(server: DatabaseServer) -> None:
    database = server.new_database()
    server.ask(database, "CREATE TABLE t (n INTEGER)")
    still_open = _OPEN[type(server)].format(database)
    code = _PSYCOPG if isinstance(server, PostgreSQL) else _PYMYSQL
    with held_line(server.port) as line, snippet(code, str(line.port), database) as client:
        assert client.line() == "open"
        line.hold()
        client.kill()

        assert server.ask("", still_open), "the server has not noticed"

        line.release()
        eventually(lambda: not server.ask("", still_open), "the server has ended the transaction")
    assert server.ask(database, "SELECT n FROM t") == []


_RUN = """
import signal, sys
from tests.support.mariadb import running_mariadb
from tests.support.postgresql import running_postgresql
with {"postgresql": running_postgresql, "mariadb": running_mariadb}[sys.argv[1]]() as server:
    if sys.argv[2] == "stopped":
        server.stop_signal()
    print(server.port, server.pid, server.folder, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_server_ends_with_a_test_run_that_is_killed(name: str, state: str) -> None:
    with snippet(_RUN, name, state) as run:
        port, pid, folder = run.line().split()
        with gone_at_the_end(name, pid, folder):
            assert not is_over(pid)
            run.kill()
            eventually(lambda: is_over(pid) and not listens(port), "the server has ended, too")


_WORDS = """
import json, signal
from tests.support.database_server import bound_to_this_run
print(json.dumps(bound_to_this_run(signal.SIGKILL)), flush=True)
"""


def test_a_server_does_not_begin_once_its_test_run_has_ended(tmp_path: Path) -> None:
    with snippet(_WORDS) as run:
        of_run = json.loads(run.line())
    tmp_path.chmod(0o777)
    for words, begins in ((of_run, False), (bound_to_this_run(signal.SIGKILL), True)):
        made = tmp_path / f"begun-{begins}"
        subprocess.run([*words, "sh", "-c", f"exec > {made.name}"], cwd=tmp_path, check=begins)
        assert made.exists() == begins


_TESTS = """
import os
import threading
import pytest

@pytest.mark.parametrize("number", [0, 1])
def test_with_a_server(number, postgresql):
    with open({notes!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{postgresql.pid}} {{postgresql.folder}}\\n")
    threading.Event().wait()
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("killed", ["workers", "controller"])
def test_the_servers_of_all_workers_end_with_a_parallel_run_that_is_killed(killed: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    (tmp_path / "test_servers_of_a_run.py").write_text(_TESTS.format(notes=str(notes)))
    command = [*(sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"), "-p", "tests.conftest"]
    with (tmp_path / "output").open("wb") as output, ExitStack() as stack:
        run = subprocess.Popen(
            [*command, "--rootdir", str(tmp_path), str(tmp_path)], cwd=ROOT, stdout=output, stderr=output, env=_PLAIN
        )
        stack.callback(run.wait, 20)
        stack.callback(run.kill)
        eventually(lambda: len(notes.read_text().splitlines()) == 2, "both workers have a server", 120.0)
        rows = [line.split() for line in notes.read_text().splitlines()]
        for worker, server, folder in rows:
            stack.enter_context(gone_at_the_end("postgresql", server, folder))
            stack.callback(end, worker, signal.SIGKILL)
        assert not any(is_over(pid) for row in rows for pid in row[:2])
        for pid in [run.pid] if killed == "controller" else [int(worker) for worker, _server, _folder in rows]:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: all(is_over(pid) for row in rows for pid in row[:2]), "nothing is left", 60.0)


_PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
"""The environment without what the present run has told its own processes."""


@contextmanager
def gone_at_the_end(name: str, pid: str, folder: str) -> Iterator[None]:
    """The server `pid` does not outlive the block, and its folder neither."""
    try:
        yield
    finally:
        end(pid, signal.SIGCONT)
        end(pid, signal.SIGINT if name == "postgresql" else signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def end(pid: str, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(int(pid), number)


def is_over(pid: str) -> bool:
    """Whether the process is gone, or waits for its parent to notice its end."""
    return not executes(int(pid)) and not is_stopped(int(pid))


def listens(port: str) -> bool:
    """Whether a server accepts connections there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", int(port))) == 0
