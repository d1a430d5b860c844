"""A look into a ledger that no consumer has open: for the command line, while no daemon runs. It changes nothing.

A ledger that was closed in order is one file, and is read where it lies. What a killed consumer has left in the
-wal file would be moved into the ledger by merely opening it, perhaps by root; then both are copied, the copy is read.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from supervisor.errors import LedgerError, StateError
from supervisor.ledger.base import Row
from supervisor.ledger.sqlite import errors_explained
from supervisor.ledger.sqlite_index import Index
from supervisor.system.locks import lock_holder
from supervisor.system.scratch import scratch_folder


def peek_file(path: Path, key: bytes) -> list[Row]:
    """As `supervisor.ledger.peek` with this `key`, of the database at `path`. Raises LedgerError."""
    try:
        if not path.exists():
            return []
        holder = lock_holder(path.with_suffix(".lock"))
        if holder is not None:
            raise LedgerError(f"{path}: in use by the consumer (pid {holder}): only the daemon can read it")
        with _opened(path) as database, errors_explained(path):
            return Index(database).look_up([key])[key]
    except StateError as error:
        raise LedgerError(f"{path}: {error}") from error
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error.strerror}; use the daemon's user, or root (sudo)") from error


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    log = path.with_name(path.name + "-wal")
    if not (log.exists() and log.stat().st_size):
        with _connected(f"file:{quote(str(path))}?mode=ro&immutable=1", path) as database:
            yield database
        return
    folder = scratch_folder("preforkd-", "a copy of the ledger", [path.parent])
    try:
        for file in (path, log):
            shutil.copyfile(file, folder / file.name)
        with _connected(f"file:{quote(str(folder / path.name))}", path) as database:
            yield database
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _connected(uri: str, path: Path) -> Iterator[sqlite3.Connection]:
    with errors_explained(path):
        database = sqlite3.connect(uri, uri=True)
    with closing(database):
        yield database
