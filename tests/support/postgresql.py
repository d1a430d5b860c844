"""A private PostgreSQL for tests. `postgresql` is one server for the whole run; a test makes its own database."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from tests.support.database_server import DatabaseServer
from tests.support.nobody import a_public_folder
from tests.support.tools import cannot
from tests.support.waiting import eventually

_SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "shared_buffers": "16MB", "fsync": "on"}


class PostgreSQL(DatabaseServer):
    """One server. Every client is its superuser `postgres`."""

    end_signal = signal.SIGINT  # a fast shutdown; it removes the shared memory

    def __init__(self, folder: Path, programs: Path) -> None:
        super().__init__(folder)
        self._programs = programs
        self._numbers = count(1)

    def command(self) -> list[str]:
        """Runs initdb where there is no data."""
        data = self.folder / "data"
        if not data.exists():
            given = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync")
            self.prepare(str(self._programs / "initdb"), f"--pgdata={data}", *given)
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(data), "-p", str(self.port), *settings]

    def stop_signal(self) -> None:
        """As for every server; its children have process groups of their own."""
        super().stop_signal()
        self._signal_children(signal.SIGSTOP)

    def cont(self) -> None:
        """As for every server."""
        super().cont()
        self._signal_children(signal.SIGCONT)

    def end(self, number: signal.Signals | None = None) -> None:
        """As for every server. With SIGKILL all of it dies at one moment, as with a host that loses power."""
        children = list[int]()
        if number is signal.SIGKILL:
            self.stop_signal()
            children = self._children()
            self._signal_children(number)
        super().end(number)
        eventually(lambda: not any(map(_is_alive, children)), "the server's children are gone, with their memory")

    def dsn(self, database: str) -> str:
        """The connection string of libpq, for psycopg and psycopg2."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    def url(self, database: str, driver: str = "psycopg") -> str:
        """`driver`: psycopg or psycopg2."""
        return f"postgresql+{driver}://postgres@127.0.0.1:{self.port}/{database}"

    def ask(self, database: str, sql: str) -> list[tuple[object, ...]]:
        """Without a database: in `postgres`."""
        import psycopg

        with psycopg.connect(self.dsn(database or "postgres"), autocommit=True, connect_timeout=5) as connection:
            answer = connection.execute(sql)
            return answer.fetchall() if answer.description else []

    def new_database(self) -> str:
        """Named t1, t2 and so on."""
        name = f"t{next(self._numbers)}"
        self.ask("", f"CREATE DATABASE {name} STRATEGY file_copy")
        return name

    def _signal_children(self, number: signal.Signals) -> None:
        for pid in self._children():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _children(self) -> list[int]:
        told = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in told.split()]


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def programs() -> Path:
    """The folder of PostgreSQL's programs; skips the test (or fails it, under CI=true) without."""
    installed = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if installed:
        return max(installed, key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    return Path(os.path.realpath(found)).parent if found else cannot(_MISSING)


_MISSING = "PostgreSQL is not installed here: .ci/need-databases"


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """A started server that is gone at the end, whatever happens in between."""
    pytest.importorskip("psycopg")
    with a_public_folder(in_memory=True) as folder:
        server = PostgreSQL(folder, programs())
        try:
            server.start()
            yield server
        finally:
            server.end()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One server for the whole run; `new_database()` is a test's own. Leave it running and unstopped."""
    with running_postgresql() as server:
        yield server
