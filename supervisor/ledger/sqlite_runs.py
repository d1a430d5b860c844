"""The runs of the ledger's index: where rows of long ago are, by fingerprint. In the consumer process, within the
transactions of `sqlite.py`. It must never make a turn long: runs are merged and removed a piece at a time.

A run is written once and never changed. Small ones are merged into larger ones, level by level, so that look-ups ask
few, and an entry is written once a level. Runs are in the order of time, and are given up whole when the last of their
records has been forgotten. One is in force by its row in `runs` (a `level` that is not NULL), set in the transaction
that completes it; what a crash leaves of others is removed later.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from supervisor.ledger import entries as entry_format
from supervisor.ledger import schema
from supervisor.ledger.base import Damaged

TOP_LEVEL = 3
"""Runs of this level (two million rows) are not merged any more: what they have of forgotten records goes with them."""
ROWS_A_STEP = 256
"""A step (a merge of some 1,000 entries: half a millisecond) is due whenever so many rows have been settled. Three
quarters of that would do: each entry is merged TOP_LEVEL times."""
REMOVED_A_STEP = 64
"""Chunks that a step removes: twice as many as are written."""


class Run(NamedTuple):
    """One in force. `bits`: its filter."""

    number: int
    level: int
    first_seq: int
    last_seq: int
    bits: bytes


class Merge(NamedTuple):
    """One under way. `filters`: of the chunks that have been written, which are as many as they have parts."""

    number: int
    sources: list[Run]
    filters: list[bytes]


class Runs:
    """All runs of one ledger. Raises sqlite3.Error and Damaged."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._merges: dict[int, Merge] = {}  # by the level of their sources
        self._due = 0
        filters: dict[int, list[bytes]] = defaultdict(list)
        for number, bits in database.execute(schema.ALL_FILTERS):
            filters[number].append(bits)
        known = database.execute("SELECT run, level, first_seq, last_seq FROM runs ORDER BY first_seq").fetchall()
        self._in_force = [  # those of one level in the order of time
            Run(number, level, first_seq, last_seq, b"".join(filters[number]))
            for number, level, first_seq, last_seq in known
            if level is not None
        ]
        if any(len(run.bits) != entry_format.filter_bytes(run.level) for run in self._in_force):
            raise Damaged("a part of a filter is missing")
        self._waste: list[int] = [number for number, level, *_ in known if level is None]
        self._last = max((number for number, *_ in known), default=0)

    def find(self, fingerprints: Sequence[int]) -> dict[int, list[int]]:
        """For those of `fingerprints` that may be known, the records to look into."""
        found: dict[int, list[int]] = defaultdict(list)
        by_level: dict[int, list[entry_format.Probe]] = {}
        for run in self._in_force:
            probes = by_level.get(run.level)
            if probes is None:
                by_level[run.level] = probes = entry_format.probes(fingerprints, run.level)
            for fingerprint in entry_format.passing(probes, run.bits):
                chunk = self._chunk(run, entry_format.chunk_of(fingerprint, run.level))
                found[fingerprint] += entry_format.records_of(fingerprint, chunk, run.first_seq)
        return found

    def add(self, entries: list[int], first_seq: int, last_seq: int) -> None:
        """A new run of these sorted `entries`, which are of the records from `first_seq` to `last_seq`."""
        number, all_chunks = self._new(), entry_format.chunk_count(0)
        bits = write_part(self._database, number, entries, 0, 0, all_chunks)
        self._put_in_force(Run(number, 0, first_seq, last_seq, bits))

    def work(self, settled: int) -> None:
        """The merging and removing that is due after `settled` more rows."""
        self._due += settled
        while self._due >= ROWS_A_STEP:
            self._due -= ROWS_A_STEP
            merge = self._next_merge()
            if merge is not None:
                self._merge_part(merge)
            self._remove_waste()

    def forget(self, before_seq: int) -> None:
        """Give up the runs whose records are all before `before_seq`."""
        for run in [run for run in self._in_force if run.last_seq < before_seq]:
            self._give_up(run)
        self._remove_waste()

    # ---- merging --------------------------------------------------------------------------------------------------

    def _next_merge(self) -> Merge | None:
        """The one of the lowest level: a large one takes half a million rows' time, in which a hundred small runs would
        come to wait for it, and be asked at each look-up."""
        fan = 1 << entry_format.MERGE_BITS
        for level in range(TOP_LEVEL):
            sources = [run for run in self._in_force if run.level == level]
            if level not in self._merges and len(sources) >= fan:
                self._merges[level] = Merge(self._new(), sources[:fan], [])
            if level in self._merges:
                return self._merges[level]
        return None

    def _merge_part(self, merge: Merge) -> None:
        """One chunk of each source: they become as many chunks as there are sources."""
        part, level = len(merge.filters), merge.sources[0].level
        entries: list[int] = []
        for source in merge.sources:
            entries += entry_format.unpack(self._chunk(source, part))
        entries.sort()
        fan = 1 << entry_format.MERGE_BITS
        merge.filters.append(write_part(self._database, merge.number, entries, level + 1, part * fan, fan))
        if len(merge.filters) == entry_format.chunk_count(level):
            self._end_merge(merge, level + 1)

    def _end_merge(self, merge: Merge, level: int) -> None:
        first_seq, last_seq = merge.sources[0].first_seq, merge.sources[-1].last_seq
        for source in merge.sources:
            if source in self._in_force:
                self._give_up(source)
        self._put_in_force(Run(merge.number, level, first_seq, last_seq, b"".join(merge.filters)))
        del self._merges[level - 1]

    # ---- rows -----------------------------------------------------------------------------------------------------

    def _new(self) -> int:
        self._last += 1
        self._database.execute("INSERT INTO runs VALUES (?, NULL, 0, 0)", (self._last,))
        return self._last

    def _put_in_force(self, run: Run) -> None:
        values = (run.level, run.first_seq, run.last_seq, run.number)
        self._database.execute("UPDATE runs SET level = ?, first_seq = ?, last_seq = ? WHERE run = ?", values)
        self._in_force.append(run)

    def _give_up(self, run: Run) -> None:
        self._database.execute("UPDATE runs SET level = NULL WHERE run = ?", (run.number,))
        self._in_force.remove(run)
        self._waste.append(run.number)

    def _remove_waste(self) -> None:
        room = REMOVED_A_STEP
        while self._waste and room > 0:
            number = self._waste[0]
            bounds = (schema.part_id(number, 0), schema.part_id(number + 1, 0), room)
            removed = [self._database.execute(statement, bounds).rowcount for statement in schema.REMOVE_PARTS]
            if max(removed) < room:
                self._database.execute("DELETE FROM runs WHERE run = ?", (number,))
                del self._waste[0]
            room -= sum(removed) + 1

    def _chunk(self, run: Run, number: int) -> bytes:
        found = self._database.execute(schema.CHUNK, (schema.part_id(run.number, number),)).fetchone()
        chunk: bytes = found[0] if found else b""
        return chunk


def write_part(
    database: sqlite3.Connection, run: int, entries: Sequence[int], level: int, first: int, count: int
) -> bytes:
    """Write the sorted `entries` of `count` chunks of a `run` of this `level` from number `first`. Returns their
    filter."""
    chunks = (
        (schema.part_id(run, number), entry_format.pack(some))
        for number, some in entry_format.in_chunks(entries, level, first, count)
    )
    database.executemany(schema.ADD_CHUNK, chunks)
    bits = entry_format.filter_of(entries, level, first, count)
    database.execute(schema.ADD_FILTER, (schema.part_id(run, first), bits))
    return bits
