"""A private MariaDB for tests. `mariadb` is one server for the whole run; a test makes its own database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.database_server import DatabaseServer
from tests.support.nobody import a_public_folder
from tests.support.tools import tool

_SETTINGS = (
    "--bind-address=127.0.0.1",
    "--skip-grant-tables",  # it needs no tables of its own then, which take seconds to make
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
)


class MariaDB(DatabaseServer):
    """One server. Every user and password is accepted."""

    def __init__(self, folder: Path, program: str) -> None:
        super().__init__(folder)
        self._program = program
        self._numbers = count(1)

    def command(self) -> list[str]:
        """The server makes its data where there is none."""
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data").chmod(0o777)
        files = (f"--datadir={self.folder}/data", f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid")
        return [self._program, "--no-defaults", *files, f"--port={self.port}", *_SETTINGS]

    def place(self, database: str) -> dict[str, Any]:
        """The arguments of `connect` that PyMySQL and mysqlclient share."""
        return {"host": "127.0.0.1", "port": self.port, "user": "root", "database": database}

    def url(self, database: str, driver: str = "pymysql") -> str:
        """`driver`: pymysql or mysqldb."""
        return f"mysql+{driver}://root@127.0.0.1:{self.port}/{database}"

    def ask(self, database: str, sql: str) -> list[tuple[object, ...]]:
        """Without a database: in none."""
        import pymysql
        from pymysql.constants import CLIENT

        place = self.place(database) if database else self.place("") | {"database": None}
        several = CLIENT.MULTI_STATEMENTS
        with closing(pymysql.connect(**place, autocommit=True, connect_timeout=5, client_flag=several)) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            rows = list(cursor.fetchall())
            while cursor.nextset():
                rows = list(cursor.fetchall())
            return rows

    def new_database(self) -> str:
        """Named t1, t2 and so on."""
        name = f"t{next(self._numbers)}"
        self.ask("", f"CREATE DATABASE {name}")
        return name


@contextmanager
def running_mariadb() -> Iterator[MariaDB]:
    """A started server that is gone at the end, whatever happens in between."""
    pytest.importorskip("pymysql")
    with a_public_folder(in_memory=True) as folder:
        server = MariaDB(folder, tool("mariadbd"))
        try:
            server.start()
            yield server
        finally:
            server.end()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """One server for the whole run; `new_database()` is a test's own. Leave it running and unstopped."""
    with running_mariadb() as server:
        yield server
