"""What `top` shows: a status object, the rates since those before it, the exit history. Pure: no clock, no drawing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import asdict, replace

from supervisor.control.results import ConsumerStatus, PoolStatus, ReloadStatus, Status, WorkerStatus
from supervisor.exit_history import Record
from supervisor.link.consumer_state import ConnectionStatus
from supervisor.quantities import show_seconds

RATE_WINDOW_S = 5.0
"""Rates are taken over this long: consumers tell their counts four times a second, handlers may take seconds."""

_BUSY_FIRST = ("running", "publishing", "leaving", "booting", "backoff", "held", "stopped", "idle")
_UNREMARKABLE = frozenset({"ready", "consuming"})

Counted = tuple[object, ...]
"""What is counted: of a pool's consumer, or of a worker, by its pid."""


class WorkerRow(WorkerStatus, frozen=True):
    """One worker, and how many messages it handles a second."""

    rate: float | None

    @property
    def nearness(self) -> float:
        """How much of its time limit has gone, from 0 to 1; 0 without a limit."""
        return min(1.0, self.elapsed_s / self.limit_s) if self.attempt and self.limit_s > 0 else 0.0


@dataclass(frozen=True)
class PoolRow:
    """One pool; its workers are sorted, busy ones first."""

    name: str
    status: PoolStatus
    connection: ConnectionStatus
    """As old as it is now, not as it was when the consumer told of it."""
    done_rate: float | None
    failed_rate: float | None
    remarks: tuple[str, ...]
    """What is not as usual, in words."""
    workers: tuple[WorkerRow, ...]

    @property
    def ready(self) -> int:
        """How many workers can take messages, or have one."""
        return sum(worker.state in ("idle", "running", "publishing") for worker in self.workers)


@dataclass(frozen=True)
class View:
    """Everything on the screen that comes from the daemon."""

    status: Status
    events: tuple[str, ...]
    """What concerns the daemon as a whole, in words: a reload under way, a child of its own that is not well."""
    pools: tuple[PoolRow, ...]
    tally: tuple[tuple[str, int], ...]
    """How often each cause, over the life of the state directory."""

    def pool(self, name: str) -> PoolRow | None:
        """The pool of this name; the first one where there is none any more."""
        return next((pool for pool in self.pools if pool.name == name), next(iter(self.pools), None))


class Past:
    """The counts of the last few seconds, and the rates that come out of them."""

    def __init__(self) -> None:
        self._daemon: tuple[int, str] | None = None
        self._samples: deque[tuple[float, Mapping[Counted, int]]] = deque()

    def add(self, status: Status) -> None:
        """Take note of a status. One of another daemon, or of another consumer, resets the counts."""
        if self._daemon != (status.pid, status.started_at):
            self._daemon = (status.pid, status.started_at)
            self._samples.clear()
        self._samples.append((status.uptime_s, _counts(status)))
        while len(self._samples) > 2 and status.uptime_s - self._samples[1][0] >= RATE_WINDOW_S:
            self._samples.popleft()

    def rate(self, *key: object) -> float | None:
        """How fast a count grows, a second; None while unknown."""
        known = [(at_s, counts[key]) for at_s, counts in self._samples if key in counts]
        if not known or key not in self._samples[-1][1]:
            return None
        (first_s, first), (last_s, last) = known[0], known[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s and last >= first else None


def make_view(status: Status, past: Past, now: datetime) -> View:
    """The view of a status that `past` knows already. `now`: when it was answered."""
    tally: Counter[str] = Counter()
    for row in status.exits:
        tally[row.cause] += row.count
    pools = (_pool(name, pool, past, now) for name, pool in status.pools.items())
    return View(status, tuple(_events(status)), tuple(pools), tuple(tally.most_common()))


def exit_rows(records: Iterable[Record], now: datetime) -> tuple[Record, ...]:
    """Exit records that are the oldest first; the youngest first, each with its age as `ago_s`."""
    return tuple({**record, "ago_s": _ago_s(record.get("at"), now)} for record in reversed(list(records)))


def connection_s(consumer: ConsumerStatus, now: datetime) -> float:
    """For how long a consumer's connection has been in its state: it told so at `at`, and not again since."""
    return consumer.connection.since_s + _ago_s(consumer.at, now)


def reload_text(reload: ReloadStatus) -> str:
    """A reload under way, in words."""
    waits_for = f", waits for {', '.join(reload.waits_for)}" if reload.waits_for else ""
    return f"reload: {reload.stage} since {reload.since} ({reload.requested_by}){waits_for}"


def brief_seconds(seconds: float) -> str:
    """A duration in few cells: `0.4s`, `12s`, `3m5s`."""
    if seconds < 10.0:
        return f"{int(max(0.0, seconds) * 10) / 10:.1f}s"
    return show_seconds(float(int(seconds)))


def _counts(status: Status) -> Mapping[Counted, int]:
    counts: dict[Counted, int] = {}
    for name, pool in status.pools.items():
        counts |= {(name, pool.consumer.pid, what): count for what, count in pool.counters.items()}
        counts |= {(worker.name, worker.pid): worker.handled for worker in pool.workers}
    return counts


def _pool(name: str, pool: PoolStatus, past: Past, now: datetime) -> PoolRow:
    workers = (WorkerRow(**asdict(worker), rate=past.rate(worker.name, worker.pid)) for worker in pool.workers)
    consumer = pool.consumer
    return PoolRow(
        name=name,
        status=pool,
        connection=replace(consumer.connection, since_s=connection_s(consumer, now)),
        done_rate=past.rate(name, consumer.pid, "done"),
        failed_rate=past.rate(name, consumer.pid, "failed"),
        remarks=tuple(_remarks(pool)),
        workers=tuple(sorted(workers, key=_busy_first)),
    )


def _busy_first(worker: WorkerRow) -> tuple[int, int]:
    """Workers with long runs come first; below a second the order stays (sorting is stable)."""
    known = worker.state in _BUSY_FIRST
    return (_BUSY_FIRST.index(worker.state) if known else 0, -int(worker.elapsed_s))


def _remarks(pool: PoolStatus) -> Iterator[str]:
    yield from dict.fromkeys(filter(None, [pool.why, *pool.consumer.notes]))
    if pool.paused is not None:
        yield f"paused by {pool.paused.by}, since {pool.paused.since}"
    if pool.configured != pool.wanted:
        yield f"scaled to {pool.wanted}, configured: {pool.configured}"
    for kind, child in (("forkserver", pool.forkserver), ("consumer", pool.consumer)):
        if child.state not in _UNREMARKABLE and pool.state not in (child.state, "stopping"):
            yield f"{kind} {child.state}"
        if child.restarts:
            yield f"{kind}: {child.restarts} restart(s)"


def _events(status: Status) -> Iterator[str]:
    if status.reload is not None:
        yield reload_text(status.reload)
    for sidecar in status.sidecars:
        if sidecar.state not in _UNREMARKABLE:
            why = f" ({sidecar.why})" if sidecar.why else ""
            yield f"{sidecar.kind} {sidecar.state}{why}"


def _ago_s(at: object, now: datetime) -> float:
    try:
        return max(0.0, (now - datetime.fromisoformat(str(at))).total_seconds())
    except (ValueError, TypeError):  # a record without a time, or one that is none
        return 0.0
