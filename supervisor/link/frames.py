"""The frames between preforkd's processes, as msgspec structs; four protocols, one union of frames each direction.

worker <-> consumer (`WorkerFrame`, `ConsumerFrame`), master <-> forkserver (`ForkOrder`, `ForkReport`),
master <-> consumer (`ConsumerOrder`, `ConsumerReport`) and master <-> sidecar (`SidecarOrder`, `SidecarReport`).
Data only: no I/O, no clock. A field's type states its range, so decoded values are within it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.config import schema
from supervisor.link.consumer_state import ConnectionStatus, Durations, Measurements, QueueStatus, Trace, TraceFailure
from supervisor.link.identities import Count, Number, Pid, Seconds, fingerprint
from supervisor.link.identities import Incarnation as Incarnation
from supervisor.link.identities import RunId as RunId
from supervisor.messages.message import Properties, Publication
from supervisor.symptoms import Symptom


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The base of all frames."""


# ---- worker -> consumer -------------------------------------------------------------------------------------------


class Hello(Frame, frozen=True):
    """First frame of a worker on every connection: its identity, and all runs that it holds, also a running one."""

    version: str
    slot: Number
    generation: Number
    pid: Pid
    held: list[RunId]


class Outcome(Frame, frozen=True):
    """The outcome of a run. The slot's ring has it at `cell`, with a shortened `stack`."""

    cell: Count
    run: RunId
    kind: str  # an OutcomeKind value of supervisor.scoreboard.layout
    delay_s: float | None
    reason: str
    stack: str
    elapsed_s: Seconds
    database: bytes = b""  # the identity of that whose inbox the run used


class Publish(Frame, frozen=True):
    """The publishes of a handler that has returned. The run is done only once they are confirmed."""

    run: RunId
    publications: list[Publication]


class Returned(Frame, frozen=True):
    """Requeued, unstarted runs: the answer to Recall, or before Bye."""

    runs: list[RunId]


class Bye(Frame, frozen=True):
    """The worker exits and holds no run any more. `reason`: a LeavingReason value."""

    reason: str


# ---- consumer -> worker -------------------------------------------------------------------------------------------


class Welcome(Frame, frozen=True):
    """The Hello was accepted."""


class Run(Frame, frozen=True):
    """Run this message; the worker holds it until its outcome, its return or the worker's death.
    From `due_s` on (CLOCK_BOOTTIME; 0: never) it is returned, and not begun."""

    run: RunId
    id: str
    properties: Properties
    body: bytes
    exchange: str
    routing_key: str
    redelivered: bool
    maybe_duplicate: bool
    database: bytes = b""  # as in Outcome, of an earlier attempt
    given_up: str = ""  # why the message has no attempt left: this run only asks its inbox
    due_s: Seconds = 0.0


class Recall(Frame, frozen=True):
    """Requeue all unstarted runs; answered with one Returned, even an empty one. `leave`: then exit."""

    leave: bool = False


class Published(Frame, frozen=True):
    """The result of a Publish: all confirmed, or not, with the reason."""

    run: RunId
    ok: bool
    reason: str


# ---- master -> forkserver -----------------------------------------------------------------------------------------


class StartForkserver(Frame, frozen=True):
    """First frame of a forkserver, with one descriptor: the write end of the pool's readiness pipe.

    A worker writes `struct.pack("<II", slot, generation)` to the pipe once it is ready for messages.
    """

    version: str
    pool: schema.PoolConfig
    log: schema.LogConfig
    pool_dir: str
    link_path: str
    master_pid: int


class Fork(Frame, frozen=True):
    """Fork a worker into this slot."""

    slot: Number
    generation: Number


class Quit(Frame, frozen=True):
    """Exit with status 0 (every child but workers)."""


# ---- every child -> master ------------------------------------------------------------------------------------------


class Build(Frame, frozen=True):
    """The only frame of a child whose build has other frames than its master: it must be the same in all builds."""

    version: str  # its VERSION
    release: str  # the package's version


# ---- forkserver -> master -----------------------------------------------------------------------------------------


class Imported(Frame, frozen=True):
    """The handler is imported and checked; forks may be ordered."""

    seconds: Seconds


class BootFailed(Frame, frozen=True):
    """The forkserver's boot has failed; it exits with status 78."""

    reason: str
    stack: str


class Forked(Frame, frozen=True):
    """The worker is forked; the process is now the master's own child."""

    slot: Number
    generation: Number
    pid: Pid


class ForkFailed(Frame, frozen=True):
    """The worker could not be forked (EAGAIN, slot locked ...)."""

    slot: Number
    generation: Number
    reason: str


# ---- master -> consumer -------------------------------------------------------------------------------------------


class StartConsumer(Frame, frozen=True):
    """First frame of a consumer, with one descriptor: the pool's listening link socket.

    `alive`: the worker generations that are not known to be dead; every other one is dead and recorded.
    """

    version: str
    pool: schema.PoolConfig
    broker: schema.BrokerConfig
    ledger: schema.LedgerConfig
    log: schema.LogConfig
    state_dir: str
    pool_dir: str
    link_path: str
    master_pid: int
    alive: list[Incarnation]
    paused: bool = False
    fleet: schema.FleetConfig | None = None


class Spawned(Frame, frozen=True):
    """A worker was forked; sent before its Hello."""

    worker: Incarnation


class ExitNotice(Frame, frozen=True):
    """This worker is dead and its exit recorded (the only proof of death). Repeated until ExitNoticeTaken."""

    worker: Incarnation
    cause: str
    status: int | None
    signal: str | None
    stack: str


class Drain(Frame, frozen=True):
    """Cancel the subscription, requeue unstarted messages, settle running ones; answered with Drained."""


class Pause(Frame, frozen=True):
    """Drain without an exit; Resume subscribes again."""


class Resume(Frame, frozen=True):
    """Subscribe again after Pause."""


class Reconfigure(Frame, frozen=True):
    """Use these settings; those of connection and subscription are unchanged."""

    pool: schema.PoolConfig
    log: schema.LogConfig


class Find(Frame, frozen=True):
    """Find the messages with this id; answered with Found, which has the same `number`."""

    number: Count
    message_id: str


class FindGone(Frame, frozen=True):
    """Find failed messages that are gone; those with the ids `drop` (None: all) are dropped, as ordered `by`."""

    number: Count
    drop: list[str] | None
    by: str


class CloseConnection(Frame, frozen=True):
    """Cut the broker connection, as a fault of the drill (through the control socket)."""


# ---- consumer -> master -------------------------------------------------------------------------------------------


class ExitNoticeTaken(Frame, frozen=True):
    """The exit notice is durable, and need not be repeated. `ran`: the kind of the running message, or ""."""

    worker: Incarnation
    ran: str = ""


class Misunderstood(Frame, frozen=True):
    """This worker has sent its consumer an invalid frame. `pid`: the sender, from the kernel."""

    worker: Incarnation
    pid: Pid
    reason: str


class Stalled(Frame, frozen=True):
    """This worker holds so many messages and has begun none for `waited_s` seconds. Repeated until it begins one."""

    worker: Incarnation
    messages: int
    waited_s: float


class Consuming(Frame, frozen=True):
    """The subscription is up: the pool consumes."""


class Refused(Frame, frozen=True):
    """A permanent failure (the broker refuses, an extra is not installed); the child exits with status 78."""

    reason: str


class Drained(Frame, frozen=True):
    """The drain is over; its results."""

    finished: int
    returned: int
    cut_off: list[str]


class Snapshot(Frame, frozen=True):
    """A consumer's part of `status`; sent after a change, at most every 250 ms."""

    at: Seconds
    connection: ConnectionStatus
    queue: QueueStatus
    counters: dict[str, int]
    in_flight: Count
    symptoms: list[Symptom]
    measures: Measurements


class Letters(Frame, frozen=True):
    """Dead letters of one pass, for the hooks (docs/hooks.md); `more`: the number of those that are not named."""

    named: list[dict[str, Any]]
    more: Number


class Found(Frame, frozen=True):
    """The answer to Find: traces (docs/control-protocol.md) of the first of `total` messages, or `why` not now."""

    number: Count
    traces: list[Trace]
    why: str
    total: Count = 0


# ---- master -> sidecar --------------------------------------------------------------------------------------------


class StartSidecar(Frame, frozen=True):
    """First frame of a child that belongs to no pool (web, hooks); comes without descriptors.

    A sidecar gets only its own settings: `web` and `broker` for web, `hooks` for hooks; the others have their defaults,
    so that it has no secret that it does not need. `source`: the configuration's path.
    """

    version: str
    web: schema.WebConfig
    hooks: schema.HooksConfig
    broker: schema.BrokerConfig
    log: schema.LogConfig
    state_dir: str
    runtime_dir: str
    source: str
    master_pid: int


class Happened(Frame, frozen=True):
    """An event for the hooks. `hook`: its kind, `exit`, `hold` or `dead`; `facts`: JSON values (docs/hooks.md)."""

    hook: str
    facts: dict[str, Any]


class Missed(Frame, frozen=True):
    """The numbers of dropped events, by hook: the sidecar did not read them in time."""

    counts: dict[str, int]


# ---- sidecar -> master --------------------------------------------------------------------------------------------


class Serving(Frame, frozen=True):
    """The sidecar is ready; `what`: a text for the log, such as `on http://127.0.0.1:9750`."""

    what: str


WorkerFrame = Hello | Outcome | Publish | Returned | Bye
ConsumerFrame = Welcome | Run | Recall | Published
ForkOrder = StartForkserver | Fork | Quit
ForkReport = Build | Imported | BootFailed | Forked | ForkFailed
ConsumerControl = Drain | Pause | Resume | Reconfigure | CloseConnection | Quit
ConsumerOrder = StartConsumer | Spawned | ExitNotice | ConsumerControl | Find | FindGone
ConsumerReport = (
    Build | ExitNoticeTaken | Misunderstood | Stalled | Consuming | Refused | Drained | Snapshot | Letters | Found
)
SidecarOrder = StartSidecar | Happened | Missed | Quit
SidecarReport = Build | Serving | Refused

PARTS = (
    *(RunId, Incarnation, Properties, Publication, schema.Binding, Symptom),
    *(ConnectionStatus, QueueStatus, Durations, Measurements, Trace, TraceFailure),
    *(schema.BrokerConfig, schema.TlsConfig, schema.LedgerConfig, schema.FleetConfig, schema.PoolConfig),
    *(schema.LogConfig, schema.WebConfig, schema.HooksConfig),
)
"""The structs in fields of frames."""

VERSION = fingerprint((*Frame.__subclasses__(), *PARTS))
"""The first field of every Hello and Start: processes of different builds refuse each other."""
