"""The ledger: the consumer's durable record of where each message is. One interface (`base.py`) and one store (SQLite),
with one conformance suite (`tests/conformance/test_ledger_conformance.py`).

The imports inside the functions are on purpose: the vocabulary of rows (`base.py`) does not load SQLite.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.config.schema import LedgerConfig
    from supervisor.ledger.base import Ledger, Row

_FILE = "ledger.db"


def open_ledger(pool_dir: Path, config: LedgerConfig) -> Ledger:
    """The ledger of the pool with this folder, made where there is none.

    Raises LedgerError: in use by another consumer, no permission, disk full; LedgerUnusable: damaged, other version.
    """
    from supervisor.ledger.sqlite import SqliteLedger

    return SqliteLedger(pool_dir / _FILE, config.sync)


def peek(pool_dir: Path, key: bytes) -> list[Row]:
    """The rows with the id part of `key`, read without opening the ledger; [] where there is none.

    Raises LedgerError: in use by a consumer, not readable.
    """
    from supervisor.ledger.sqlite_peek import peek_file

    return peek_file(pool_dir / _FILE, key)
