"""The rows that no run of the ledger's index knows yet: all open ones, and the closed ones of late. Pure.

In memory, in the consumer process; made again from the last records whenever the ledger is opened. Of a closed row only
its place is kept: the record that it is in, by fingerprint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import repeat

from supervisor.ledger.base import Row
from supervisor.ledger.entries import entry, fingerprints


class Recent:
    """`open`: the open rows by key."""

    def __init__(self) -> None:
        self.open: dict[bytes, Row] = {}
        self._begun = _Places()
        self._settled = _Places()

    @property
    def settled(self) -> int:
        """How many closed rows there are."""
        return len(self._settled)

    def begin(self, seq: int, rows: Sequence[Row]) -> None:
        """Open rows of the record `seq`."""
        keys = [row.key for row in rows]
        self.open.update(zip(keys, rows, strict=True))
        self._begun.add(fingerprints(keys), seq)

    def settle(self, seq: int, rows: Sequence[Row]) -> None:
        """Closed rows of the record `seq`."""
        keys = [row.key for row in rows]
        for key in keys:
            self.open.pop(key, None)
        self._settled.add(fingerprints(keys), seq)

    def find(self, fingerprints: Sequence[int]) -> dict[int, list[int]]:
        """For those of `fingerprints` that are known, the records to look into."""
        known = self._begun.known(fingerprints) | self._settled.known(fingerprints)
        return {known: self._begun.of(known) + self._settled.of(known) for known in known}

    def fold(self) -> list[int]:
        """Sorted entries of all closed rows, which can be found without us from now on. Nor do we know any more which
        records have the open ones: they are to begin again, in a new one."""
        entries = sorted(self._settled.entries())
        self._begun, self._settled = _Places(), _Places()
        return entries


class _Places:
    """Which records have rows of a fingerprint: the newest, and others where there are."""

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}
        self._others: dict[int, list[int]] = defaultdict(list)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, fingerprints: Sequence[int], seq: int) -> None:
        newest = self._newest
        if not newest.keys().isdisjoint(fingerprints):
            for known in self.known(fingerprints):
                self._others[known].append(newest[known])
        newest.update(zip(fingerprints, repeat(seq)))
        self._count += len(fingerprints)

    def known(self, fingerprints: Sequence[int]) -> set[int]:
        return self._newest.keys() & fingerprints

    def of(self, fingerprint: int) -> list[int]:
        newest = self._newest.get(fingerprint)
        return [] if newest is None else [newest, *self._others.get(fingerprint, ())]

    def entries(self) -> list[int]:
        others = [entry(known, seq) for known, seqs in self._others.items() for seq in seqs]
        return [entry(known, seq) for known, seq in self._newest.items()] + others
