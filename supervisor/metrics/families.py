"""Every metric: name, type, labels, meaning, and the place of its values in the status object. Pure.

The table is published (docs/metrics.md has the same rows; a test compares them). An unknown value has no sample: a zero
would look like a fact. Counters have all label values from the start, so that the first crash is an increase and not a
new series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import UNSET, UnsetType
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from supervisor.control.results import (
    DAEMON_STATES,
    POOL_STATES,
    WORKER_STATES,
    PoolStatus,
    ServiceStatus,
    SidecarStatus,
    Status,
    WorkerStatus,
)
from supervisor.link.consumer_state import Durations, Measurements
from supervisor.logs.events import Cause, Event

T = TypeVar("T")
Metric = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
Sample = tuple[tuple[str, ...], Any]
"""Label values and the value: a number, or for a histogram its Durations."""

Counts = dict[str, int] | UnsetType
"""A part of a pool's `measures`; not set before the consumer has said something."""

CONNECTION_STATES = ("connected", "connecting", "blocked", "refused", "closed")
OUTCOMES = ("done", "retried", "dead", "parked", "saved", "duplicate", "returned", "dropped")
"""Every delivery ends as exactly one of these (docs/guarantees.md)."""
PUBLISH_RESULTS = ("confirmed", "refused", "lost")
SYMPTOMS = {
    "starved": Event.CONSUMER_STARVED,
    "unresponsive": Event.QUEUE_UNRESPONSIVE,
    "shared": Event.QUEUE_SHARED,
    "stalled": Event.POOL_STALLED,
    "worker_stalled": Event.WORKER_STALLED,
    "worker_stopped": Event.WORKER_STOPPED,
    "crashing": Event.POOL_CRASHING,
    "service_crashing": Event.SERVICE_CRASHING,
    "unmanned": Event.POOL_UNMANNED,
}
"""Label and event of a symptom; the label of any other symptom is its event's name."""
SERVICES = ("forkserver", "consumer")
KINDS = ("worker", *SERVICES)
_AT_WORK = frozenset({"ready", "consuming", "paused", "draining"})


class Family(NamedTuple, Generic[T]):
    """A metric. `read`: its samples, from the Status or from one PoolStatus (`pool` is then the first label)."""

    type: type[Metric]
    meaning: str
    read: Callable[[T], Iterable[Sample]]
    labels: tuple[str, ...]


def counter(meaning: str, read: Callable[[T], Iterable[Sample]], *labels: str) -> Family[T]:
    """A counter. `meaning`, `read` and `labels` are those of its Family."""
    return Family(CounterMetricFamily, meaning, read, labels)


def gauge(meaning: str, read: Callable[[T], Iterable[Sample]], *labels: str) -> Family[T]:
    """A gauge. `meaning`, `read` and `labels` are those of its Family."""
    return Family(GaugeMetricFamily, meaning, read, labels)


def histogram(meaning: str, read: Callable[[T], Iterable[Sample]], *labels: str) -> Family[T]:
    """A histogram. `meaning`, `read` and `labels` are those of its Family."""
    return Family(HistogramMetricFamily, meaning, read, labels)


# ---- readings -----------------------------------------------------------------------------------------------------


def fact(value: Callable[[T], float | Durations | UnsetType]) -> Callable[[T], Iterator[Sample]]:
    """The one `value`, if it is known."""

    def read(of: T) -> Iterator[Sample]:
        if not isinstance(found := value(of), UnsetType):
            yield (), found

    return read


def one_of(states: Iterable[str], state: Callable[[T], str]) -> Callable[[T], Iterator[Sample]]:
    """1 for the present `state`, 0 for all other `states`."""
    return lambda of: (((each,), int(each == state(of))) for each in states)


def counted(part: Callable[[Measurements], Counts], *names: str) -> Callable[[PoolStatus], Iterator[Sample]]:
    """One number for each of these names in `part` of a pool's `measures`; 0 for those never counted."""

    def read(pool: PoolStatus) -> Iterator[Sample]:
        if not isinstance(counts := part(pool.measures), UnsetType):
            yield from (((name,), counts.get(name, 0)) for name in names)

    return read


def one_count(part: Callable[[Measurements], Counts], name: str) -> Callable[[PoolStatus], Iterator[Sample]]:
    """The number `name` in `part` of a pool's `measures`, without a label."""
    read_all = counted(part, name)
    return lambda pool: (((), value) for _name, value in read_all(pool))


def _exits(status: Status) -> Iterator[Sample]:
    """Exits of the present pools, and of children that belong to no pool."""
    counts = {(pool, kind, str(cause)): 0 for pool in status.pools for kind in KINDS for cause in Cause}
    for row in status.exits:
        if row.pool in status.pools or not row.pool:
            key = row.pool, row.kind, row.cause
            counts[key] = counts.get(key, 0) + row.count
    yield from counts.items()


def _services(number: Callable[[Status | ServiceStatus], float]) -> Callable[[Status], Iterator[Sample]]:
    """A number for every process but workers; the master belongs to no pool."""

    def read(status: Status) -> Iterator[Sample]:
        yield ("", "master"), number(status)
        for name, pool in status.pools.items():
            yield from (((name, kind), number(child)) for kind, child in _children(pool) if child.pid is not None)

    return read


def _children(pool: PoolStatus) -> tuple[tuple[str, ServiceStatus], ...]:
    return tuple(zip(SERVICES, (pool.forkserver, pool.consumer), strict=True))


def _sidecars(number: Callable[[SidecarStatus], int | UnsetType]) -> Callable[[Status], Iterator[Sample]]:
    """A number for each configured sidecar that has one."""

    def read(status: Status) -> Iterator[Sample]:
        for sidecar in status.sidecars:
            if not isinstance(value := number(sidecar), UnsetType):
                yield (sidecar.kind,), value

    return read


def _service_up(pool: PoolStatus) -> Iterator[Sample]:
    yield from (((kind,), int(child.state in _AT_WORK)) for kind, child in _children(pool))


def _workers(pool: PoolStatus) -> Iterator[Sample]:
    counts = Counter(worker.state for worker in pool.workers)
    yield from (((state,), counts[state]) for state in WORKER_STATES)


def _each_worker(number: Callable[[WorkerStatus], float]) -> Callable[[PoolStatus], Iterator[Sample]]:
    return lambda pool: (((worker.name,), number(worker)) for worker in pool.workers if worker.pid is not None)


def _consumer_told(value: Callable[[PoolStatus], int]) -> Callable[[PoolStatus], Iterator[Sample]]:
    """No sample before the consumer's first snapshot: until then the status has zeros."""
    return fact(lambda pool: value(pool) if pool.consumer.at else UNSET)


def _symptoms(pool: PoolStatus) -> Iterator[Sample]:
    """1 for present symptoms; 0 for the others of the table after the consumer's first snapshot."""
    labels: dict[str, str] = {event: label for label, event in SYMPTOMS.items()}
    present = [labels.get(symptom.name, symptom.name) for symptom in pool.symptoms]
    known = SYMPTOMS if pool.consumer.at else ()
    yield from (((label,), int(label in present)) for label in dict.fromkeys([*known, *present]))


def _started(status: Status) -> float:
    return datetime.fromisoformat(status.started_at).timestamp()


def _oldest_run(pool: PoolStatus) -> float:
    return max((worker.elapsed_s for worker in pool.workers), default=0.0)


# ---- the table ----------------------------------------------------------------------------------------------------

OF_THE_DAEMON: dict[str, Family[Status]] = {
    "preforkd_build_info": gauge("1; which version runs.", lambda status: [((status.version,), 1)], "version"),
    "preforkd_start_time_seconds": gauge("When the daemon was started (Unix time).", fact(_started)),
    "preforkd_state": gauge(
        "1 for the daemon's state, 0 for every other.", one_of(DAEMON_STATES, lambda status: status.state), "state"
    ),
    "preforkd_exits_total": counter(
        "Exits of processes, by cause (docs/exits.md); outlives the daemon.", _exits, "pool", "kind", "cause"
    ),
    "preforkd_service_resident_memory_bytes": gauge(
        "Resident memory of a process that is no worker.", _services(lambda process: process.rss_bytes), "pool", "kind"
    ),
    "preforkd_service_cpu_seconds_total": counter(
        "Processor time of a process that is no worker; from zero with each process.",
        _services(lambda process: process.cpu_s),
        "pool",
        "kind",
    ),
    "preforkd_sidecar_up": gauge(
        "1 while the web page or the hooks process is ready, else 0.",
        _sidecars(lambda sidecar: int(sidecar.state == "ready")),
        "kind",
    ),
    "preforkd_sidecar_restarts_total": counter(
        "Replacements of the web page's or hooks' process.", _sidecars(lambda sidecar: sidecar.restarts), "kind"
    ),
    "preforkd_sidecar_dropped_total": counter(
        "Events dropped because the buffer for hooks was full.", _sidecars(lambda sidecar: sidecar.dropped), "kind"
    ),
}

OF_A_POOL: dict[str, Family[PoolStatus]] = {
    "preforkd_pool_state": gauge(
        "1 for the pool's state, 0 for every other.", one_of(POOL_STATES, lambda pool: pool.state), "state"
    ),
    "preforkd_workers_wanted": gauge(
        "How many workers there are to be, after `scale`.", fact(lambda pool: pool.wanted)
    ),
    "preforkd_workers": gauge("How many workers are in this state.", _workers, "state"),
    "preforkd_worker_resident_memory_bytes": gauge(
        "Resident memory of a worker, pages shared with its forkserver included.",
        _each_worker(lambda worker: worker.rss_bytes),
        "worker",
    ),
    "preforkd_worker_cpu_seconds_total": counter(
        "Processor time of a worker; from zero with each replacement.",
        _each_worker(lambda worker: worker.cpu_s),
        "worker",
    ),
    "preforkd_oldest_run_seconds": gauge("For how long the oldest running handler runs.", fact(_oldest_run)),
    "preforkd_restarts_total": counter(
        "Replacements of dead processes.", lambda pool: (((kind,), pool.restarts[kind]) for kind in KINDS), "kind"
    ),
    "preforkd_holds_total": counter(
        "How often a child was held because replacements kept dying.", fact(lambda pool: pool.holds)
    ),
    "preforkd_service_up": gauge("1 while the pool's forkserver or consumer is ready, else 0.", _service_up, "kind"),
    "preforkd_deliveries_total": counter(
        "Messages delivered by the broker.", one_count(lambda measures: measures.outcomes, "delivered")
    ),
    "preforkd_messages_total": counter(
        "Deliveries by how they ended.", counted(lambda measures: measures.outcomes, *OUTCOMES), "outcome"
    ),
    "preforkd_failed_runs_total": counter("Failed attempts.", one_count(lambda measures: measures.outcomes, "failed")),
    "preforkd_expired_messages_total": counter(
        "Messages dead-lettered without a run because their time was over; dead counts them, too.",
        one_count(lambda measures: measures.outcomes, "expired"),
    ),
    "preforkd_handler_duration_seconds": histogram(
        "How long handlers ran, failed attempts included.", fact(lambda pool: pool.measures.handler_s)
    ),
    "preforkd_messages_in_flight": gauge(
        "Messages delivered and not settled.", _consumer_told(lambda pool: pool.consumer.in_flight)
    ),
    "preforkd_queue_messages_ready": gauge(
        "Messages waiting in the queue, as the broker last said.", _consumer_told(lambda pool: pool.depth.ready)
    ),
    "preforkd_queue_consumers": gauge(
        "Consumers of the queue, as the broker last said.", _consumer_told(lambda pool: pool.depth.consumers)
    ),
    "preforkd_symptom": gauge("1 while the pool has this symptom.", _symptoms, "symptom"),
    "preforkd_connection_state": gauge(
        "1 for the state of the broker connection, 0 for others.",
        one_of(CONNECTION_STATES, lambda pool: pool.consumer.connection.state),
        "state",
    ),
    "preforkd_connections_opened_total": counter(
        "How often the broker was reached.", one_count(lambda measures: measures.connections, "opened")
    ),
    "preforkd_connections_lost_total": counter(
        "How often the connection to the broker was lost.", one_count(lambda measures: measures.connections, "lost")
    ),
    "preforkd_connection_attempts_failed_total": counter(
        "Attempts to reach the broker that failed.", one_count(lambda measures: measures.connections, "failed")
    ),
    "preforkd_publishes_total": counter(
        "Publications (copies and handlers') by result.",
        counted(lambda measures: measures.publishes, *PUBLISH_RESULTS),
        "result",
    ),
    "preforkd_publishes_unconfirmed": gauge(
        "Publications that wait for the broker's confirm.",
        one_count(lambda measures: measures.publishes, "unconfirmed"),
    ),
    "preforkd_ledger_rows": gauge(
        "Messages that the ledger remembers.", one_count(lambda measures: measures.ledger, "rows")
    ),
    "preforkd_ledger_rows_limit": gauge(
        "How many it may remember (`[ledger] keep_max`).", one_count(lambda measures: measures.ledger, "keep_max")
    ),
    "preforkd_ledger_size_bytes": gauge(
        "Size of the ledger's files.", one_count(lambda measures: measures.ledger, "bytes")
    ),
    "preforkd_ledger_evicted_early_total": counter(
        "Rows forgotten before their time, because the ledger was full.", fact(lambda pool: pool.measures.evicted_early)
    ),
    "preforkd_ledger_commit_duration_seconds": histogram(
        "How long the ledger's commits took.", fact(lambda pool: pool.measures.commit_s)
    ),
}
