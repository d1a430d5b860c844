"""The keys in the dictionaries of a Snapshot that its readers rely on, and the check of their types. Pure.

The master passes them on to every reader of the status: a wrong one is refused when it comes, not when the
page, the metrics or systemd's status line trip over it. Keys that are not named here may be added freely.
"""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import msgspec

from supervisor.link.frames import Snapshot
from supervisor.link.ranges import Count, Seconds

State = Annotated[str, msgspec.Meta(min_length=1)]


class ConnectionFacts(TypedDict, total=False):
    """`connection`: of the broker."""

    state: State
    host: str
    since_s: Seconds
    opened: Count
    why: str


class QueueFacts(TypedDict, total=False):
    """`queue`: as the broker has told last."""

    name: str
    ready: Count
    consumers: Count


class HistogramFacts(TypedDict):
    """Durations, counted by upper bounds."""

    le: list[float]
    counts: list[Count]
    sum: float
    count: Count


class MeasuresFacts(TypedDict, total=False):
    """`measures`: what metrics are drawn from (docs/control-protocol.md)."""

    outcomes: dict[str, int]
    handler_s: HistogramFacts
    commit_s: HistogramFacts
    ledger: dict[str, int]
    evicted_early: Count
    publishes: dict[str, int]
    connections: dict[str, int]
    symptoms: list[str]


def check(snapshot: Snapshot) -> None:
    """Raise msgspec.ValidationError for a snapshot that its readers could not use."""
    parts: tuple[tuple[dict[str, Any], Any], ...] = (
        (snapshot.connection, ConnectionFacts),
        (snapshot.queue, QueueFacts),
        (snapshot.measures, MeasuresFacts),
    )
    for part, shape in parts:
        msgspec.convert(part, shape)
    msgspec.convert([symptom.since for symptom in snapshot.symptoms], list[Seconds])
