"""Rows for ledger tests."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from supervisor.config.schema import LedgerConfig
from supervisor.ledger import open_ledger, sqlite
from supervisor.ledger.base import Ledger, Row, RowState
from supervisor.ledger.schema import unpack
from supervisor.ledger.sqlite import SqliteLedger


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

    def __init__(self, config: LedgerConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder

    def open(self) -> Ledger:
        """The ledger, made at the first time."""
        return open_ledger(self.folder, self.config)

    @contextmanager
    def opened(self) -> Iterator[Ledger]:
        """The same, closed at the end."""
        ledger = self.open()
        try:
            yield ledger
        finally:
            ledger.close()

    @property
    def arguments(self) -> tuple[str, str]:
        """For a program that opens it with `of_arguments`."""
        return str(self.folder), msgspec.json.encode(self.config).decode()

    @classmethod
    def of_arguments(cls, folder: str, config: str) -> Store:
        """The same store, in another process."""
        return cls(msgspec.json.decode(config, type=LedgerConfig), Path(folder))


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
