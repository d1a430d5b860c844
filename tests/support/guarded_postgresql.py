"""PostgreSQL servers that are strict about who comes in, a standby, and pgbouncer. For tests/fleet."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.database_server import DatabaseServer
from tests.support.nobody import NOBODY, a_public_folder
from tests.support.postgresql import PostgreSQL, programs
from tests.support.tools import cannot

_RULES = """
host    replication postgres  127.0.0.1/32 trust
host    all         postgres  127.0.0.1/32 trust
host    all         ann       127.0.0.1/32 scram-sha-256
hostssl all         carol     127.0.0.1/32 trust
host    all         dora      127.0.0.1/32 reject
host    all         erin,few  127.0.0.1/32 trust
"""
ROLES = (
    "CREATE ROLE ann LOGIN PASSWORD 'right'; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN; CREATE ROLE dora LOGIN; "
    "CREATE ROLE erin NOLOGIN; CREATE ROLE few LOGIN CONNECTION LIMIT 0"
)
"""Made once in a guarded server; bob is in no rule."""


class GuardedPostgreSQL(PostgreSQL):
    """A server with rules for each role, and with TLS: its certificate is for `localhost`, signed by `ca`."""

    @property
    def ca(self) -> Path:
        """The certificate of its authority."""
        return self.folder / "ca.pem"

    def command(self) -> list[str]:
        """As its parent's, with rules and certificate."""
        words = super().command()
        rules, key, certificate = (self.folder / name for name in ("hba.conf", "key.pem", "cert.pem"))
        if not rules.exists():
            rules.write_text(_RULES)
            _sign(self.folder)
        settings = {"hba_file": rules, "ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": key}
        return [*words, *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))]


def _sign(folder: Path) -> None:
    """An authority of our own, and a certificate of the server for `localhost`."""
    ca = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=a test")
    _openssl(folder, "req", *ca, "-keyout", "ca.key", "-out", "ca.pem")
    request = ("-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost")
    _openssl(folder, "req", *request, "-keyout", "key.pem", "-out", "request.pem")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "9", "-out", "cert.pem")
    _openssl(folder, "x509", "-req", "-in", "request.pem", *signed)
    (folder / "key.pem").chmod(0o600)
    if os.geteuid() == 0:
        os.chown(folder / "key.pem", NOBODY, NOBODY)


def _openssl(folder: Path, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


class Standby(PostgreSQL):
    """A hot standby of a guarded server."""

    def __init__(self, folder: Path, programs: Path, primary: PostgreSQL) -> None:
        super().__init__(folder, programs)
        self._primary = primary

    def command(self) -> list[str]:
        """Copies the primary first."""
        data = self.folder / "data"
        if not data.exists():
            source = f"host=127.0.0.1 port={self._primary.port} user=postgres"
            self.prepare(str(self._programs / "pg_basebackup"), "-d", source, "-D", str(data), "-R", "-c", "fast")
        return super().command()


class Bouncer(DatabaseServer):
    """pgbouncer before a server. `mode`: session, transaction or statement."""

    def __init__(self, folder: Path, server: PostgreSQL, mode: str) -> None:
        super().__init__(folder)
        self._server, self._mode = server, mode

    def command(self) -> list[str]:
        """One connection to the server for all clients, where the mode allows that: what one leaves, the next finds."""
        (self.folder / "users.txt").write_text('"postgres" ""\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": self.folder / "users.txt",
            "pool_mode": self._mode,
            "default_pool_size": 4 if self._mode == "session" else 1,
            "max_client_conn": 20,
        }
        lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
        target = f"* = host=127.0.0.1 port={self._server.port} user=postgres"
        (self.folder / "bouncer.ini").write_text(f"[databases]\n{target}\n[pgbouncer]\n{lines}\n")
        return [pgbouncer(), str(self.folder / "bouncer.ini")]

    def ask(self, database: str, sql: str) -> list[tuple[object, ...]]:
        """Through the pooler."""
        import psycopg

        place = f"host=127.0.0.1 port={self.port} user=postgres dbname={database or 'postgres'}"
        with psycopg.connect(place, autocommit=True, connect_timeout=5) as connection:
            answer = connection.execute(sql)
            return answer.fetchall() if answer.description else []

    def new_database(self) -> str:
        """One of the server behind it."""
        return self._server.new_database()

    def url(self, database: str, driver: str = "psycopg") -> str:
        """As PostgreSQL's."""
        return f"postgresql+{driver}://postgres@127.0.0.1:{self.port}/{database}"


def pgbouncer() -> str:
    """The program; skips the test (or fails it, under CI=true) without."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin") or cannot(
        "pgbouncer is not installed here: .ci/need-databases"
    )


@contextmanager
def running(server: DatabaseServer) -> Iterator[None]:
    """A server that is started, and gone at the end."""
    try:
        server.start()
        yield
    finally:
        server.end()


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedPostgreSQL]:
    """One guarded server for the tests of a file."""
    pytest.importorskip("psycopg")
    with a_public_folder(in_memory=True) as folder:
        server = GuardedPostgreSQL(folder, programs())
        with running(server):
            server.ask("", ROLES)
            yield server
