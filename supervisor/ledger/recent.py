"""The rows that the ledger's `keys` do not know yet: all open ones, and the closed ones of late. Pure.

In memory, in the consumer process; made again from the last records whenever the ledger is opened. Each row comes with
the number of the record it is in, and a later one of the same key takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from supervisor.identity import ID_BYTES
from supervisor.ledger.base import Row


class Recent:
    """`settled`: how many closed rows there are; `len()`: how many in all."""

    def __init__(self) -> None:
        self.settled = 0
        self._count = 0
        self._by_id: dict[bytes, dict[bytes, tuple[int, Row]]] = {}

    def __len__(self) -> int:
        return self._count

    def put(self, seq: int, rows: Iterable[Row]) -> None:
        """Rows of the record `seq`."""
        by_id = self._by_id
        for row in rows:
            id = row.key[:ID_BYTES]
            same_id = by_id.get(id)
            if same_id is None:
                by_id[id] = same_id = {}
            former = same_id.get(row.key)
            if former is None:
                self._count += 1
            elif not former[1].state.open:
                self.settled -= 1
            same_id[row.key] = (seq, row)
            if not row.state.open:
                self.settled += 1

    def of_id(self, key: bytes) -> dict[bytes, tuple[int, Row]]:
        """All rows with this key's id part, by key."""
        return self._by_id.get(key[:ID_BYTES], _NONE)

    def open_rows(self, until_seq: int | None = None) -> list[Row]:
        """Open rows, oldest first; `until_seq`: only those of records up to that one."""
        rows = [row for seq, row in self._all() if row.state.open and (until_seq is None or seq <= until_seq)]
        return sorted(rows, key=lambda row: row.at_s)

    def settled_keys(self) -> list[tuple[bytes, int]]:
        """(key, record) of all closed rows, in the order of their keys."""
        return sorted((row.key, seq) for seq, row in self._all() if not row.state.open)

    def forget_settled(self, until_seq: int) -> None:
        """Closed rows of records up to this one can be found without us."""
        kept: dict[bytes, dict[bytes, tuple[int, Row]]] = {}
        self.settled = self._count = 0
        for seq, row in self._all():
            if row.state.open or seq > until_seq:
                kept.setdefault(row.key[:ID_BYTES], {})[row.key] = (seq, row)
                self.settled += not row.state.open
                self._count += 1
        self._by_id = kept

    def _all(self) -> Iterator[tuple[int, Row]]:
        return (held for same_id in self._by_id.values() for held in same_id.values())


_NONE: dict[bytes, tuple[int, Row]] = {}
