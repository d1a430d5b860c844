"""The servers that these tests start: they answer, and a client may die without their notice."""

from __future__ import annotations

import os
import shutil
import signal
import socket

import pytest

from tests.support.children import snippet
from tests.support.database_server import DatabaseServer
from tests.support.held_line import held_line
from tests.support.mariadb import MariaDB
from tests.support.postgresql import PostgreSQL
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
    print(server.port, server.pid, server.folder, flush=True)
    signal.pause()
"""


def test_a_server_ends_with_a_test_run_that_is_killed(server: DatabaseServer) -> None:
    name = "postgresql" if isinstance(server, PostgreSQL) else "mariadb"
    with snippet(_RUN, name) as run:
        port, pid, folder = run.line().split()
        assert listens(port)
        run.kill()
    try:
        eventually(lambda: not listens(port), "the server has ended, too")
    except AssertionError:
        os.kill(int(pid), signal.SIGINT if name == "postgresql" else signal.SIGKILL)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def listens(port: str) -> bool:
    """Whether a server accepts connections there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", int(port))) == 0
