"""What `top` shows: a status object, the rates since those before it, the exit history. Pure: no clock, no drawing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import asdict, replace

from supervisor.control.results import ConsumerStatus, PoolStatus, ReloadStatus, Status, WorkerStatus
from supervisor.exit_history import Record
from supervisor.link.snapshot_parts import ConnectionStatus
from supervisor.quantities import show_seconds

RATE_WINDOW_S = 5.0
"""Rates are taken over this long: consumers tell their counts four times a second, handlers may take seconds."""

_BUSY_FIRST = ("running", "publishing", "leaving", "booting", "backoff", "held", "stopped", "idle")
_UNREMARKABLE = frozenset({"ready", "consuming"})


class WorkerRow(WorkerStatus, frozen=True):
    """One worker, and how many messages it handles a second."""

    rate: float | None

    @property
    def own_limit(self) -> bool:
        """Whether the limit is the message's own, or was extended."""
        return self.limit_source != "pool"

    @property
    def nearness(self) -> float:
        """How much of its time limit has gone, from 0 to 1; 0 without a limit."""
        return min(1.0, self.elapsed_s / self.limit_s) if self.attempt and self.limit_s > 0 else 0.0


@dataclass(frozen=True)
class PoolRow:
    """One pool; its workers are sorted, busy ones first."""

    name: str
    state: str
    queue: str
    ready: int
    """Workers that can take messages, or have one."""
    wanted: int
    in_flight: int
    depth: int
    done_rate: float | None
    failed_rate: float | None
    counters: Mapping[str, int]
    connection: ConnectionStatus
    remarks: tuple[str, ...]
    """What is not as usual, in words."""
    paused: bool
    workers: tuple[WorkerRow, ...]


@dataclass(frozen=True)
class ExitRow:
    """One exit record."""

    ago_s: float
    child: str
    cause: str
    ended: str
    up_s: float
    run: str
    attempt: int
    message_id: str


@dataclass(frozen=True)
class View:
    """Everything on the screen that comes from the daemon."""

    title: str
    state: str
    uptime_s: float
    config: str
    events: tuple[str, ...]
    """What concerns the daemon as a whole, in words: a reload under way, a child of its own that is not well."""
    pools: tuple[PoolRow, ...]
    tally: tuple[tuple[str, int], ...]
    """How often each cause, over the life of the state directory."""

    def pool(self, name: str) -> PoolRow | None:
        """The pool of this name; the first one where there is none any more."""
        return next((pool for pool in self.pools if pool.name == name), next(iter(self.pools), None))


@dataclass
class Past:
    """The status objects of the last few seconds, and the rates that come out of them."""

    _samples: deque[_Sample] = field(default_factory=deque)

    def add(self, status: Status) -> None:
        """Take note of a status. One of another daemon, or of another consumer, resets the counts."""
        sample = _sample(status)
        if self._samples and self._samples[-1].daemon != sample.daemon:
            self._samples.clear()
        self._samples.append(sample)
        while len(self._samples) > 2 and sample.at_s - self._samples[1].at_s >= RATE_WINDOW_S:
            self._samples.popleft()

    def rate(self, *key: object) -> float | None:
        """How fast a count grows, a second; None while unknown."""
        known = [sample for sample in self._samples if key in sample.counts]
        if not known or known[-1] is not self._samples[-1]:
            return None
        first, last = known[0], known[-1]
        passed_s, more = last.at_s - first.at_s, last.counts[key] - first.counts[key]
        return more / passed_s if passed_s > 0 and more >= 0 else None


@dataclass(frozen=True)
class _Sample:
    daemon: tuple[object, ...]
    at_s: float
    counts: Mapping[tuple[object, ...], int]


def make_view(status: Status, past: Past, now: datetime) -> View:
    """The view of a status that `past` knows already. `now`: when it was answered."""
    tally: dict[str, int] = {}
    for row in status.exits:
        tally[row.cause] = tally.get(row.cause, 0) + row.count
    return View(
        title=f"preforkd {status.version}  pid {status.pid}",
        state=status.state,
        uptime_s=status.uptime_s,
        config=status.config or "no configuration file",
        events=tuple(_events(status)),
        pools=tuple(_pool(name, pool, past, now) for name, pool in status.pools.items()),
        tally=tuple(sorted(tally.items(), key=lambda item: -item[1])),
    )


def exit_rows(records: Iterable[Record], now: datetime) -> tuple[ExitRow, ...]:
    """The rows of exit records that are the oldest first; the youngest first."""
    return tuple(_exit(record, now) for record in reversed(list(records)))


def _sample(status: Status) -> _Sample:
    counts: dict[tuple[object, ...], int] = {}
    for name, pool in status.pools.items():
        counts |= {(name, pool.consumer.pid, what): count for what, count in pool.counters.items()}
        counts |= {(worker.name, worker.pid): worker.handled for worker in pool.workers}
    return _Sample((status.pid, status.started_at), status.uptime_s, counts)


def connection_s(consumer: ConsumerStatus, now: datetime) -> float:
    """For how long a consumer's connection has been in its state: it told so at `at`, and not again since."""
    return consumer.connection.since_s + _ago_s(consumer.at, now)


def _pool(name: str, pool: PoolStatus, past: Past, now: datetime) -> PoolRow:
    workers = sorted((_worker(worker, past) for worker in pool.workers), key=_busy_first)
    consumer = pool.consumer
    return PoolRow(
        name=name,
        state=pool.state,
        queue=pool.queue,
        ready=sum(worker.state in ("idle", "running", "publishing") for worker in workers),
        wanted=pool.wanted,
        in_flight=consumer.in_flight,
        depth=pool.depth.ready,
        done_rate=past.rate(name, consumer.pid, "done"),
        failed_rate=past.rate(name, consumer.pid, "failed"),
        counters=pool.counters,
        connection=replace(consumer.connection, since_s=connection_s(consumer, now)),
        remarks=tuple(_remarks(pool)),
        paused=pool.paused is not None,
        workers=tuple(workers),
    )


def _worker(worker: WorkerStatus, past: Past) -> WorkerRow:
    return WorkerRow(**asdict(worker), rate=past.rate(worker.name, worker.pid))


def _busy_first(worker: WorkerRow) -> tuple[int, int]:
    """Workers with long runs come first; below a second the order stays (sorting is stable)."""
    known = worker.state in _BUSY_FIRST
    return (_BUSY_FIRST.index(worker.state) if known else 0, -int(worker.elapsed_s))


def _remarks(pool: PoolStatus) -> Sequence[str]:
    remarks = [pool.why] if pool.why else []
    remarks += [note for note in pool.consumer.notes if note not in remarks]
    if pool.paused is not None:
        remarks.append(f"paused by {pool.paused.by}, since {pool.paused.since}")
    if pool.configured != pool.wanted:
        remarks.append(f"scaled to {pool.wanted}, configured: {pool.configured}")
    for kind, child in (("forkserver", pool.forkserver), ("consumer", pool.consumer)):
        if child.state not in _UNREMARKABLE and pool.state not in (child.state, "stopping"):
            remarks.append(f"{kind} {child.state}")
        if child.restarts:
            remarks.append(f"{kind}: {child.restarts} restart(s)")
    return remarks


def reload_text(reload: ReloadStatus) -> str:
    """A reload under way, in words."""
    waits_for = f", waits for {', '.join(reload.waits_for)}" if reload.waits_for else ""
    return f"reload: {reload.stage} since {reload.since} ({reload.requested_by}){waits_for}"


def _events(status: Status) -> Iterator[str]:
    if status.reload is not None:
        yield reload_text(status.reload)
    for sidecar in status.sidecars:
        if sidecar.state not in _UNREMARKABLE:
            why = f" ({sidecar.why})" if sidecar.why else ""
            yield f"{sidecar.kind} {sidecar.state}{why}"


def _exit(record: Record, now: datetime) -> ExitRow:
    kind, pool, slot = record.get("kind", "worker"), record.get("pool", ""), record.get("slot")
    status, signal = record.get("status"), record.get("signal")
    return ExitRow(
        ago_s=_ago_s(record.get("at"), now),
        child=f"{pool}/{slot}" if slot is not None else f"{kind} {pool}".strip(),
        cause=str(record.get("cause", "-")),
        ended=str(signal or ("-" if status is None else status)),
        up_s=float(record.get("uptime_s") or 0.0),
        run=str(record.get("run") or "").replace("_", " "),
        attempt=int(record.get("attempt") or 0),
        message_id=str(record.get("message_id") or ""),
    )


def _ago_s(at: object, now: datetime) -> float:
    try:
        return max(0.0, (now - datetime.fromisoformat(str(at))).total_seconds())
    except (ValueError, TypeError):  # a record without a time, or one that is none
        return 0.0


def brief_seconds(seconds: float) -> str:
    """A duration in few cells: `0.4s`, `12s`, `3m5s`."""
    if seconds < 10.0:
        return f"{int(max(0.0, seconds) * 10) / 10:.1f}s"
    return show_seconds(float(int(seconds)))
