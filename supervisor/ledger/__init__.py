"""The ledger: the consumer's durable record of where each message is. One interface (`base.py`) and two ledgers: this
host's alone (SQLite), and that with the store of a fleet (PostgreSQL). One conformance suite is for both
(`tests/conformance/test_ledger_conformance.py`).

The imports inside the functions are on purpose: the vocabulary of rows (`base.py`) does not load SQLite, and a pool
that is in no fleet does not load psycopg.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.config.schema import FleetConfig, LedgerConfig, PoolConfig
    from supervisor.ledger.base import Ledger, Row
    from supervisor.ledger.fleet_opening import FleetOpener

_FILE = "ledger.db"


class LedgerOpener:
    """Opens the ledger of the pool with the folder `pool_dir`, as often as its consumer needs that.

    `fleet`: the pool's, or None. What a fleet's ledger has seen at one opening counts at the next.
    """

    def __init__(self, pool_dir: Path, config: LedgerConfig, fleet: FleetConfig | None) -> None:
        self._pool_dir = pool_dir
        self._config = config
        self._fleet = fleet
        self._opener: FleetOpener | None = None

    def open(self, pool: PoolConfig) -> Ledger:
        """The ledger, made where there is none.

        Raises LedgerError: in use by another consumer, no permission, disk full, the fleet's store cannot be used;
        LedgerUnusable: damaged, other version.
        """
        host = open_ledger(self._pool_dir, self._config)
        if self._fleet is None:
            return host
        if self._opener is None:
            from supervisor.ledger.fleet_opening import FleetOpener

            self._opener = FleetOpener(self._fleet, self._config)
        return self._opener.open(host, pool)


def open_ledger(pool_dir: Path, config: LedgerConfig) -> Ledger:
    """This host's ledger of the pool with this folder, made where there is none.

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
