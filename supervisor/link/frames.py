"""The words spoken between preforkd's processes, as msgspec structs; four small languages, one table each.

worker <-> consumer (`WorkerFrame`, `ConsumerFrame`), master <-> forkserver (`ForkOrder`, `ForkReport`),
master <-> consumer (`ConsumerOrder`, `ConsumerReport`) and master <-> sidecar (`SidecarOrder`, `SidecarReport`).
Data only: no I/O, no clock. A field's type states its range as well: what is decoded is within it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.config.schema import (
    Binding,
    BrokerConfig,
    HooksConfig,
    LedgerConfig,
    LogConfig,
    PoolConfig,
    TlsConfig,
    WebConfig,
)
from supervisor.link.fingerprint import fingerprint
from supervisor.link.identities import Incarnation as Incarnation
from supervisor.link.identities import RunId as RunId
from supervisor.link.ranges import Count, Number, Pid, Seconds
from supervisor.link.snapshot_parts import ConnectionStatus, Durations, Measurements, QueueStatus
from supervisor.messages.message import Properties, Publication
from supervisor.symptoms import Symptom


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The base of everything sent over a channel."""


# ---- worker -> consumer -------------------------------------------------------------------------------------------


class Hello(Frame, frozen=True):
    """First frame of a worker, after every (re)connect: who it is and all it still holds (running one included)."""

    version: str
    slot: Number
    generation: Number
    pid: Pid
    held: list[RunId]


class Outcome(Frame, frozen=True):
    """A run ended. The same is in the slot's ring at `cell`; `stack` here is whole, there it is capped."""

    cell: Count
    run: RunId
    kind: str  # an OutcomeKind value of supervisor.scoreboard.layout
    delay_s: float | None
    reason: str
    stack: str
    elapsed_s: Seconds


class Publish(Frame, frozen=True):
    """The handler returned; these are its publishes. The run is done only once they are confirmed."""

    run: RunId
    publications: list[Publication]


class Returned(Frame, frozen=True):
    """Runs given back unstarted: the answer to Recall, or before Bye."""

    runs: list[RunId]


class Bye(Frame, frozen=True):
    """The worker leaves (reason: a LeavingReason value) and holds nothing any more."""

    reason: str


# ---- consumer -> worker -------------------------------------------------------------------------------------------


class Welcome(Frame, frozen=True):
    """The Hello was accepted."""


class Run(Frame, frozen=True):
    """Run this message; it is the worker's until it says otherwise or is dead."""

    run: RunId
    id: str
    properties: Properties
    body: bytes
    exchange: str
    routing_key: str
    redelivered: bool
    maybe_duplicate: bool


class Recall(Frame, frozen=True):
    """Give back everything that was not started; answered with one Returned, even when empty. `leave`: then leave."""

    leave: bool = False


class Published(Frame, frozen=True):
    """The fate of a Publish: all confirmed, or not and why."""

    run: RunId
    ok: bool
    reason: str


# ---- master -> forkserver -----------------------------------------------------------------------------------------


class StartForkserver(Frame, frozen=True):
    """First frame a forkserver reads. Comes with one descriptor: the write end of the pool's bell pipe.

    A worker writes `struct.pack("<II", slot, generation)` to the bell once it is ready for messages.
    """

    version: str
    pool: PoolConfig
    log: LogConfig
    pool_dir: str
    link_path: str
    master_pid: int


class Fork(Frame, frozen=True):
    """Fork a worker into this slot."""

    slot: Number
    generation: Number


class Quit(Frame, frozen=True):
    """Leave with status 0 (every child but workers)."""


# ---- every child -> master ------------------------------------------------------------------------------------------


class Build(Frame, frozen=True):
    """The only frame of a child that speaks other frames than its master: it names its own build.

    `version` is its VERSION, `release` the package's version. This frame must be the same in all builds.
    """

    version: str
    release: str


# ---- forkserver -> master -----------------------------------------------------------------------------------------


class Imported(Frame, frozen=True):
    """The handler is imported, frozen and checked; forks may be ordered."""

    seconds: Seconds


class BootFailed(Frame, frozen=True):
    """The forkserver cannot serve and leaves with 78; also sent by it on behalf of nobody else."""

    reason: str
    stack: str


class Forked(Frame, frozen=True):
    """The order was carried out; the pid is now the master's own child."""

    slot: Number
    generation: Number
    pid: Pid


class ForkFailed(Frame, frozen=True):
    """The order could not be carried out (EAGAIN, slot locked ...)."""

    slot: Number
    generation: Number
    reason: str


# ---- master -> consumer -------------------------------------------------------------------------------------------


class StartConsumer(Frame, frozen=True):
    """First frame a consumer reads. Comes with one descriptor: the pool's listening link socket.

    `alive` names the incarnations that are not known to be dead; every other one is dead and recorded.
    """

    version: str
    pool: PoolConfig
    broker: BrokerConfig
    ledger: LedgerConfig
    log: LogConfig
    state_dir: str
    pool_dir: str
    link_path: str
    master_pid: int
    alive: list[Incarnation]
    paused: bool = False


class Spawned(Frame, frozen=True):
    """A worker was forked; sent before it can say Hello."""

    worker: Incarnation


class ExitNotice(Frame, frozen=True):
    """This incarnation is dead and its exit recorded (the only proof of death). Repeated until ExitNoticeTaken."""

    worker: Incarnation
    cause: str
    status: int | None
    signal: str | None
    stack: str


class Drain(Frame, frozen=True):
    """Cancel the subscription, return what was not started, settle what runs; answer with Drained."""


class Pause(Frame, frozen=True):
    """Like Drain, but stay; Resume subscribes again."""


class Resume(Frame, frozen=True):
    """Subscribe again after Pause."""


class Reconfigure(Frame, frozen=True):
    """Go on with these settings; none of them differs in what a connection or subscription is made with."""

    pool: PoolConfig
    log: LogConfig


class Find(Frame, frozen=True):
    """What is known of the messages with this id? Answered with Found, which carries the same number."""

    number: Count
    message_id: str


class FindGone(Frame, frozen=True):
    """Which failed messages have not come back? Those with the ids `drop` (None: all) are given up, as ordered `by`."""

    number: Count
    drop: list[str] | None
    by: str


class CloseConnection(Frame, frozen=True):
    """Cut the broker connection as a fault would (used by the drill through the control socket)."""


# ---- consumer -> master -------------------------------------------------------------------------------------------


class ExitNoticeTaken(Frame, frozen=True):
    """The exit notice is durable; it need not be repeated. `ran`: the kind of message that was running, or ""."""

    worker: Incarnation
    ran: str = ""


class Misunderstood(Frame, frozen=True):
    """This worker has sent its consumer something that cannot be understood. `pid`: the sender, from the kernel."""

    worker: Incarnation
    pid: Pid
    reason: str


class Stalled(Frame, frozen=True):
    """This worker has so many messages and has begun none for `waited_s` seconds. Repeated while that is so."""

    worker: Incarnation
    messages: int
    waited_s: float


class Consuming(Frame, frozen=True):
    """The subscription is up: the pool consumes."""


class Refused(Frame, frozen=True):
    """Waiting will not heal it (the broker refuses, an extra is not installed); the child leaves with 78."""

    reason: str


class Drained(Frame, frozen=True):
    """Nothing is in flight any more; what the drain did."""

    finished: int
    returned: int
    cut_off: list[str]


class Snapshot(Frame, frozen=True):
    """What `status` shows of a consumer; pushed when it changed, at most every 250 ms."""

    at: Seconds
    connection: ConnectionStatus
    queue: QueueStatus
    counters: dict[str, int]
    in_flight: Count
    symptoms: list[Symptom]
    measures: Measurements


class Letters(Frame, frozen=True):
    """Messages that were given up in one turn, for the hooks (docs/hooks.md); `more`: how many are not named."""

    named: list[dict[str, Any]]
    more: Number


class Found(Frame, frozen=True):
    """The answer to Find: traces (docs/control-protocol.md) of the first of `total` messages, or `why` not now."""

    number: Count
    traces: list[dict[str, Any]]
    why: str
    total: Count = 0


# ---- master -> sidecar --------------------------------------------------------------------------------------------


class StartSidecar(Frame, frozen=True):
    """First frame of a child that belongs to no pool (web, hooks); comes without descriptors.

    A sidecar is given only the settings that are its own: `web` and `broker` for web, `hooks` for hooks; the others
    are left at their defaults, so that it has no secret that it does not need. `source`: the configuration's path.
    """

    version: str
    web: WebConfig
    hooks: HooksConfig
    broker: BrokerConfig
    log: LogConfig
    state_dir: str
    runtime_dir: str
    source: str
    master_pid: int


class Happened(Frame, frozen=True):
    """An event to tell. `hook`: whom it concerns, `exit`, `hold` or `dead`; `facts`: JSON values, docs/hooks.md."""

    hook: str
    facts: dict[str, Any]


class Missed(Frame, frozen=True):
    """So many events, by hook, were dropped because nobody took them."""

    counts: dict[str, int]


# ---- sidecar -> master --------------------------------------------------------------------------------------------


class Serving(Frame, frozen=True):
    """The sidecar does its work; `what` says it for people: `on http://127.0.0.1:9750`."""

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
    *(RunId, Incarnation, Properties, Publication, Binding, Symptom),
    *(ConnectionStatus, QueueStatus, Durations, Measurements),
    *(BrokerConfig, HooksConfig, LedgerConfig, LogConfig, PoolConfig, TlsConfig, WebConfig),
)
"""The structs that fields of frames are made of."""

VERSION = fingerprint((*Frame.__subclasses__(), *PARTS))
"""The first field of every Hello and Start: processes of different builds refuse each other instead of guessing."""
