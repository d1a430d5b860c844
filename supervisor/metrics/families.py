"""Every metric: name, type, labels, meaning, and the place of its values in the status object. Pure.

The table is published (docs/metrics.md has the same rows; a test compares them). An unknown value has no sample: a zero
would look like a fact. Counters have all label values from the start, so that the first crash is an increase and not a
new series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from supervisor.logs.events import Cause, Event

Facts = Mapping[str, Any]
Sample = tuple[tuple[str, ...], Any]
"""Label values and the value: a number, or for a histogram its part of `measures`."""
Reading = Callable[[Facts], Iterable[Sample]]

DAEMON_STATES = ("starting", "running", "reloading", "stopping")
POOL_STATES = ("starting", "ok", "degraded", "held", "paused", "stopping")
WORKER_STATES = ("booting", "idle", "running", "publishing", "leaving", "backoff", "held", "stopped")
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


class Type(StrEnum):
    """The type of a metric in the exposition format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(NamedTuple):
    """A metric. `read`: its samples, from the status object or from one pool (`pool` is then the first label)."""

    name: str
    type: Type
    labels: tuple[str, ...]
    meaning: str
    read: Reading


# ---- readings -----------------------------------------------------------------------------------------------------


def fact(*path: str) -> Reading:
    """The number at this path, if it is known."""

    def read(facts: Facts) -> Iterator[Sample]:
        found: Any = facts
        for name in path:
            found = found.get(name)
            if found is None:
                return
        yield (), found

    return read


def one_of(states: Iterable[str], *path: str) -> Reading:
    """1 for the state at this path, 0 for all other `states`."""

    def read(facts: Facts) -> Iterator[Sample]:
        present: Any = facts
        for name in path:
            present = present[name]
        yield from (((state,), int(state == present)) for state in states)

    return read


def counted(part: str, *names: str) -> Reading:
    """One number for each of these names in `part` of a pool's `measures`; 0 for those never counted."""

    def read(pool: Facts) -> Iterator[Sample]:
        if part in pool["measures"]:
            yield from (((name,), pool["measures"][part].get(name, 0)) for name in names)

    return read


def one_count(part: str, name: str) -> Reading:
    """The number `name` in `part` of a pool's `measures`, without a label."""
    read_all = counted(part, name)
    return lambda pool: (((), value) for _name, value in read_all(pool))


def _build(status: Facts) -> Iterator[Sample]:
    yield (status["version"],), 1


def _started(status: Facts) -> Iterator[Sample]:
    yield (), datetime.fromisoformat(status["started_at"]).timestamp()


def _exits(status: Facts) -> Iterator[Sample]:
    """Exits of the present pools, and of children that belong to no pool."""
    pools = status["pools"]
    counts = {(pool, kind, str(cause)): 0 for pool in pools for kind in KINDS for cause in Cause}
    for row in status["exits"]:
        if row["pool"] in pools or not row["pool"]:
            key = row["pool"], row["kind"], row["cause"]
            counts[key] = counts.get(key, 0) + row["count"]
    yield from counts.items()


def _services(name: str) -> Reading:
    """A number for every process but workers; the master belongs to no pool."""

    def read(status: Facts) -> Iterator[Sample]:
        yield ("", "master"), status[name]
        for pool, facts in status["pools"].items():
            yield from (((pool, kind), facts[kind][name]) for kind in SERVICES if facts[kind]["pid"] is not None)

    return read


def _sidecars(number: Callable[[Facts], Any]) -> Reading:
    """A number for each configured sidecar that has one."""

    def read(status: Facts) -> Iterator[Sample]:
        for sidecar in status["sidecars"]:
            if (value := number(sidecar)) is not None:
                yield (sidecar["kind"],), value

    return read


def _service_up(pool: Facts) -> Iterator[Sample]:
    yield from (((kind,), int(pool[kind]["state"] in _AT_WORK)) for kind in SERVICES)


def _workers(pool: Facts) -> Iterator[Sample]:
    counts = dict.fromkeys(WORKER_STATES, 0)
    for worker in pool["workers"]:
        counts[worker["state"]] += 1
    yield from (((state,), count) for state, count in counts.items())


def _each_worker(name: str) -> Reading:
    def read(pool: Facts) -> Iterator[Sample]:
        yield from (((worker["name"],), worker[name]) for worker in pool["workers"] if worker["pid"] is not None)

    return read


def _oldest_run(pool: Facts) -> Iterator[Sample]:
    yield (), max((worker["elapsed_s"] for worker in pool["workers"]), default=0.0)


def _restarts(pool: Facts) -> Iterator[Sample]:
    yield from (((kind,), pool["restarts"][kind]) for kind in KINDS)


def _consumer_told(read: Reading) -> Reading:
    """No sample before the consumer's first snapshot: until then the status object has zeros."""
    return lambda pool: read(pool) if pool["consumer"]["at"] else ()


def _symptoms(pool: Facts) -> Iterator[Sample]:
    """1 for present symptoms; 0 for the others of the table after the consumer's first snapshot."""
    labels = {event: label for label, event in SYMPTOMS.items()}
    present = [labels.get(symptom["name"], symptom["name"]) for symptom in pool["symptoms"]]
    known = SYMPTOMS if pool["consumer"]["at"] else ()
    yield from (((label,), int(label in present)) for label in dict.fromkeys([*known, *present]))


# ---- the table ----------------------------------------------------------------------------------------------------

OF_THE_DAEMON: tuple[Family, ...] = (
    Family("preforkd_build_info", Type.GAUGE, ("version",), "1; which version runs.", _build),
    Family("preforkd_start_time_seconds", Type.GAUGE, (), "When the daemon was started (Unix time).", _started),
    Family(
        *("preforkd_state", Type.GAUGE, ("state",), "1 for the daemon's state, 0 for every other."),
        one_of(DAEMON_STATES, "state"),
    ),
    Family(
        *("preforkd_exits_total", Type.COUNTER, ("pool", "kind", "cause")),
        "Exits of processes, by cause (docs/exits.md); outlives the daemon.",
        _exits,
    ),
    Family(
        *("preforkd_service_resident_memory_bytes", Type.GAUGE, ("pool", "kind")),
        "Resident memory of a process that is no worker.",
        _services("rss_bytes"),
    ),
    Family(
        *("preforkd_service_cpu_seconds_total", Type.COUNTER, ("pool", "kind")),
        "Processor time of a process that is no worker; from zero with each process.",
        _services("cpu_s"),
    ),
    Family(
        *("preforkd_sidecar_up", Type.GAUGE, ("kind",), "1 while the web page or the hooks are at work, else 0."),
        _sidecars(lambda sidecar: int(sidecar["state"] == "ready")),
    ),
    Family(
        *(
            "preforkd_sidecar_restarts_total",
            Type.COUNTER,
            ("kind",),
            "Replacements of the web page's or hooks' process.",
        ),
        _sidecars(lambda sidecar: sidecar["restarts"]),
    ),
    Family(
        *(
            "preforkd_sidecar_dropped_total",
            Type.COUNTER,
            ("kind",),
            "Events that found no room on their way to hooks.",
        ),
        _sidecars(lambda sidecar: sidecar.get("dropped")),
    ),
)

OF_A_POOL: tuple[Family, ...] = (
    Family(
        *("preforkd_pool_state", Type.GAUGE, ("state",), "1 for the pool's state, 0 for every other."),
        one_of(POOL_STATES, "state"),
    ),
    Family(
        *("preforkd_workers_wanted", Type.GAUGE, (), "How many workers there are to be, after `scale`."),
        fact("wanted"),
    ),
    Family("preforkd_workers", Type.GAUGE, ("state",), "How many workers are in this state.", _workers),
    Family(
        *("preforkd_worker_resident_memory_bytes", Type.GAUGE, ("worker",)),
        "Resident memory of a worker, pages shared with its forkserver included.",
        _each_worker("rss_bytes"),
    ),
    Family(
        *("preforkd_worker_cpu_seconds_total", Type.COUNTER, ("worker",)),
        "Processor time of a worker; from zero with each replacement.",
        _each_worker("cpu_s"),
    ),
    Family("preforkd_oldest_run_seconds", Type.GAUGE, (), "For how long the oldest running handler runs.", _oldest_run),
    Family(
        *("preforkd_restarts_total", Type.COUNTER, ("kind",), "Replacements of dead processes."),
        _restarts,
    ),
    Family(
        *("preforkd_holds_total", Type.COUNTER, (), "How often a place was held because replacements kept dying."),
        fact("holds"),
    ),
    Family(
        *(
            "preforkd_service_up",
            Type.GAUGE,
            ("kind",),
            "1 while the pool's forkserver or consumer is at work, else 0.",
        ),
        _service_up,
    ),
    Family(
        *("preforkd_deliveries_total", Type.COUNTER, (), "Messages delivered by the broker."),
        one_count("outcomes", "delivered"),
    ),
    Family(
        *("preforkd_messages_total", Type.COUNTER, ("outcome",), "Deliveries by how they ended."),
        counted("outcomes", *OUTCOMES),
    ),
    Family(
        *("preforkd_failed_runs_total", Type.COUNTER, (), "Attempts that failed, whatever became of their message."),
        one_count("outcomes", "failed"),
    ),
    Family(
        *("preforkd_handler_duration_seconds", Type.HISTOGRAM, (), "How long handlers ran, failed attempts included."),
        fact("measures", "handler_s"),
    ),
    Family(
        *("preforkd_messages_in_flight", Type.GAUGE, (), "Messages delivered and not settled."),
        _consumer_told(fact("consumer", "in_flight")),
    ),
    Family(
        *("preforkd_queue_messages_ready", Type.GAUGE, (), "Messages waiting in the queue, as the broker last said."),
        _consumer_told(fact("depth", "ready")),
    ),
    Family(
        *("preforkd_queue_consumers", Type.GAUGE, (), "Consumers of the queue, as the broker last said."),
        _consumer_told(fact("depth", "consumers")),
    ),
    Family(
        *("preforkd_symptom", Type.GAUGE, ("symptom",), "1 while something is seen to be wrong with the pool."),
        _symptoms,
    ),
    Family(
        *(
            "preforkd_connection_state",
            Type.GAUGE,
            ("state",),
            "1 for the state of the way to the broker, 0 for others.",
        ),
        one_of(CONNECTION_STATES, "consumer", "connection", "state"),
    ),
    Family(
        *("preforkd_connections_opened_total", Type.COUNTER, (), "How often the broker was reached."),
        one_count("connections", "opened"),
    ),
    Family(
        *("preforkd_connections_lost_total", Type.COUNTER, (), "How often the connection to the broker was lost."),
        one_count("connections", "lost"),
    ),
    Family(
        *("preforkd_connection_attempts_failed_total", Type.COUNTER, (), "Attempts to reach the broker that failed."),
        one_count("connections", "failed"),
    ),
    Family(
        *("preforkd_publishes_total", Type.COUNTER, ("result",), "Publications (copies and handlers') by their fate."),
        counted("publishes", *PUBLISH_RESULTS),
    ),
    Family(
        *("preforkd_publishes_unconfirmed", Type.GAUGE, (), "Publications that wait for the broker's confirm."),
        one_count("publishes", "unconfirmed"),
    ),
    Family(
        *("preforkd_ledger_rows", Type.GAUGE, (), "Messages that the ledger remembers."),
        one_count("ledger", "rows"),
    ),
    Family(
        *("preforkd_ledger_rows_limit", Type.GAUGE, (), "How many it may remember (`[ledger] keep_max`)."),
        one_count("ledger", "keep_max"),
    ),
    Family(
        *("preforkd_ledger_size_bytes", Type.GAUGE, (), "Size of the ledger's files."),
        one_count("ledger", "bytes"),
    ),
    Family(
        *("preforkd_ledger_evicted_early_total", Type.COUNTER, (), "Rows forgotten before their time: it was full."),
        fact("measures", "evicted_early"),
    ),
    Family(
        *("preforkd_ledger_commit_duration_seconds", Type.HISTOGRAM, (), "How long the ledger's commits took."),
        fact("measures", "commit_s"),
    ),
)
