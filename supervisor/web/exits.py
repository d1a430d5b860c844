"""The last exits, for lists and for the plot over time. Bounded, whatever the length of the history.

A thread reads files (`read`), the loop adds the result (`absorb`): each part of the state has one thread.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from supervisor.exit_history import HistoryTail, Record, wanted
from supervisor.system.clock import rfc3339
from supervisor.web.answers import Series

KEPT_RECORDS = 2_000
KEPT_POINTS = 100_000
_DISORDER_S = 3600.0
"""Records are in the order of writing; clocks are set back by at most this time."""


class PlotPoint(NamedTuple):
    """The facts of an exit for the plot."""

    at_s: float
    pool: str
    cause: str


class Fresh(NamedTuple):
    """New exits of the history: their last records, and a point for each."""

    records: list[Record]
    points: list[PlotPoint]


class RecentExits:
    """This process's copy of the end of the exit history."""

    def __init__(self, state_dir: Path) -> None:
        self._tail = HistoryTail(state_dir)
        self._records: deque[Record] = deque(maxlen=KEPT_RECORDS)
        self._points: deque[PlotPoint] = deque(maxlen=KEPT_POINTS)

    def read(self) -> Fresh:
        """The exits since the last call. Raises StateError if the files cannot be read."""
        records: deque[Record] = deque(maxlen=KEPT_RECORDS)
        points: deque[PlotPoint] = deque(maxlen=KEPT_POINTS)
        for record in self._tail.new():
            records.append(record)
            if (point := _point(record)) is not None:
                points.append(point)
        return Fresh(list(records), list(points))

    def absorb(self, fresh: Fresh) -> None:
        """Add the result of `read`."""
        self._records.extend(fresh.records)
        self._points.extend(fresh.points)

    def close(self) -> None:
        """Close the files."""
        self._tail.close()

    def last(self, pool: str | None, cause: str | None, limit: int) -> list[Record]:
        """The last exits, newest first, at most `limit`. `pool`, `cause`: None for any."""
        return list(islice(wanted(reversed(self._records), pool, cause), limit))

    def series(self, minutes: int, buckets: int, pool: str | None, now_s: float) -> Series:
        """The exits of each cause in the last `minutes`, in so many `buckets` with fixed borders. `pool` None: all."""
        bucket_s = minutes * 60 / buckets
        end = math.floor(now_s / bucket_s) + 1
        start_s = (end - buckets) * bucket_s
        counts: Counter[tuple[str, int]] = Counter()
        for point in reversed(self._points):
            if point.at_s < start_s - _DISORDER_S:
                break
            place = math.floor((point.at_s - start_s) / bucket_s)
            if 0 <= place < buckets and pool in (None, point.pool):
                counts[point.cause, place] += 1
        causes = sorted({cause for cause, _place in counts})
        rows = {cause: [counts[cause, place] for place in range(buckets)] for cause in causes}
        return Series(start=rfc3339(start_s), bucket_s=bucket_s, causes=rows)


def _point(record: Record) -> PlotPoint | None:
    """None for a record of another version, or a damaged one."""
    at, pool, cause = (record.get(name) for name in ("at", "pool", "cause"))
    if not (isinstance(at, str) and isinstance(pool, str) and isinstance(cause, str)):
        return None
    try:
        return PlotPoint(datetime.fromisoformat(at).timestamp(), pool, cause)
    except (ValueError, OverflowError, OSError):
        return None
