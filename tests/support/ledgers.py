"""Rows for ledger tests."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from supervisor.config.schema import FleetConfig, LedgerConfig, PoolConfig
from supervisor.ledger import LedgerOpener, sqlite
from supervisor.ledger.base import Ledger, Row, RowState
from supervisor.ledger.schema import unpack
from supervisor.ledger.sqlite import SqliteLedger

POOL = PoolConfig("email", "email", "tests.support.sample_handlers:ok")
"""The pool that all ledgers of tests belong to."""


def key_of(id: str, content: str = "") -> bytes:
    """A 24-byte key as `supervisor.messages.identity` makes them."""
    return hashlib.blake2b(id.encode(), digest_size=16).digest() + content.encode().ljust(8, b"\0")[:8]


def row_of(id: str, state: RowState = RowState.DONE, at_s: float = 1000.0, content: str = "") -> Row:
    """A plausible first-attempt row."""
    return Row(key_of(id, content), 1, 1, state, 3, 17, at_s, id)


def found(ledger: Ledger, id: str) -> list[Row]:
    """The rows of a message id, newest first."""
    key = key_of(id)
    return sorted(ledger.look_up([key])[key], key=lambda row: -row.at_s)


class Store:
    """The place of one ledger, which every test of the conformance suite opens, leaves and opens again."""

    def __init__(self, config: LedgerConfig, folder: Path, fleet: FleetConfig | None = None) -> None:
        self.config = config
        self.folder = folder
        self.fleet = fleet
        self._opener = LedgerOpener(folder, config, fleet)

    def open(self) -> Ledger:
        """The ledger, made at the first time."""
        return self._opener.open(POOL)

    @contextmanager
    def opened(self) -> Iterator[Ledger]:
        """The same, closed at the end."""
        ledger = self.open()
        try:
            yield ledger
        finally:
            ledger.close()

    @property
    def arguments(self) -> tuple[str, str, str]:
        """For a program that opens it with `of_arguments`."""
        return str(self.folder), *(msgspec.json.encode(config).decode() for config in (self.config, self.fleet))

    @classmethod
    def of_arguments(cls, folder: str, config: str, fleet: str) -> Store:
        """The same store, in another process."""
        decode = msgspec.json.decode
        return cls(decode(config, type=LedgerConfig), Path(folder), decode(fleet, type=FleetConfig | None))


def boot(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From now on ledgers are opened as after another boot of the machine."""
    monkeypatch.setattr(sqlite, "boot_id", lambda: name)


def named(ledger: SqliteLedger, id: str) -> list[Row]:
    """The rows of a message id whose queue need not be known, newest first: looks at all there are."""
    return all_named(ledger).get(id, [])


def all_named(ledger: SqliteLedger) -> dict[str, list[Row]]:
    """The rows of every message id, newest first."""
    tables = ("settled", "begun")
    records = [record for table in tables for record in ledger._database.execute(f"SELECT rows FROM {table}")]
    keys = {row.key for (record,) in records for row in unpack(record)}
    rows = {row.key: row for rows in ledger.look_up(sorted(keys)).values() for row in rows}
    by_id: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows.values(), key=lambda row: -row.at_s):
        by_id[row.id].append(row)
    return by_id
