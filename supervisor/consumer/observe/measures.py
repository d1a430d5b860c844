"""What a consumer counts for metrics, beside the ledger's counters: times, publications, connections, sizes.

Runs in the consumer process. Everything begins at zero with each session, as the meters of monitoring systems expect
it: the ledger's own counters may step back by a few when a consumer dies, which would look like a new beginning.
Counting must stay far below a microsecond per message; only `facts` may take longer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

from supervisor.brokers.base import Confirmed, Unpublished
from supervisor.link.consumer_state import Durations, Measurements

HANDLER_LE_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
)
COMMIT_LE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Histogram:
    """Durations, counted by upper bounds; one beyond the last bound has a count of its own."""

    __slots__ = ("_counts", "_le_s", "_sum_s")

    def __init__(self, le_s: tuple[float, ...]) -> None:
        self._le_s = le_s
        self._counts = [0] * (len(le_s) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration, of so many `seconds`."""
        self._counts[bisect_left(self._le_s, seconds)] += 1
        self._sum_s += seconds

    def facts(self) -> Durations:
        """As in docs/control-protocol.md."""
        return Durations(self._le_s, tuple(self._counts), round(self._sum_s, 6), sum(self._counts))


class Publishes:
    """What became of publications. `lost`: their fate went away with a connection, so they are published again."""

    def __init__(self) -> None:
        self._counts = Counter(confirmed=0, refused=0, lost=0, unconfirmed=0)

    def sent(self) -> None:
        """One was handed to the broker."""
        self._counts["unconfirmed"] += 1

    def confirmed(self, _event: Confirmed) -> None:
        """The broker has one."""
        self._counts.update(confirmed=1, unconfirmed=-1)

    def unpublished(self, event: Unpublished) -> None:
        """The broker does not have one, or may not."""
        self._counts.update({"lost" if event.lost else "refused": 1, "unconfirmed": -1})

    def facts(self) -> dict[str, int]:
        """As in docs/control-protocol.md."""
        return dict(self._counts)


class Measures:
    """One session's meters. `counters`: those of the ledger, with what has been counted since. `connections`: how often
    the broker was reached, and went away; an attempt that fails is no loss."""

    def __init__(self, keep_max: int, counters: Mapping[str, int]) -> None:
        """`counters`: the ledger's at the beginning of the session. `keep_max`: the most rows that it keeps."""
        self.counters = Counter(counters)
        self._before = dict(counters)
        self.handler_s = Histogram(HANDLER_LE_S)
        self.commit_s = Histogram(COMMIT_LE_S)
        self.publishes = Publishes()
        self.connections = Counter(opened=0, lost=0, failed=0)
        self._evicted_early = 0
        self._ledger = {"rows": 0, "bytes": 0, "keep_max": keep_max}

    def weigh(self, rows: int, size: int) -> None:
        """The ledger has so many `rows` now, in files of `size` bytes."""
        self._ledger.update(rows=rows, bytes=size)

    def evicted(self, early: int) -> None:
        """`early` rows were forgotten before their time."""
        self._evicted_early += early

    def facts(self, symptoms: Iterable[str]) -> Measurements:
        """`measures` of a Snapshot: values that no longer change. `symptoms`: the names of the present ones."""
        return Measurements(
            outcomes={name: count - self._before.get(name, 0) for name, count in self.counters.items()},
            handler_s=self.handler_s.facts(),
            commit_s=self.commit_s.facts(),
            ledger=dict(self._ledger),
            evicted_early=self._evicted_early,
            publishes=self.publishes.facts(),
            connections=dict(self.connections),
            symptoms=list(symptoms),
        )
