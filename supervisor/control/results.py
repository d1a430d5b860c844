"""What the daemon answers on the control socket, as types (docs/control-protocol.md). Data only.

Made by the master; read by the command line, `top`, metrics, the drill and the web page, which generates /openapi.json
from them. Names are published. A field that is added later has a default, so that the answer of an older daemon can be
read; unknown fields of a newer daemon are ignored.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from supervisor.link.consumer_state import ConnectionStatus, Measurements, QueueStatus, Trace

DAEMON_STATES = ("starting", "running", "reloading", "stopping")
POOL_STATES = ("starting", "ok", "degraded", "held", "paused", "stopping")
WORKER_STATES = ("booting", "idle", "running", "publishing", "leaving", "backoff", "held", "stopped")


def _one_of(*states: str) -> Meta:
    """For a schema; not checked, because a newer daemon may have further states."""
    return Meta(extra_json_schema={"enum": states})


Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all."""


class PauseStatus(Result, frozen=True):
    """A pause of a pool, and the operator that asked for it."""

    by: str
    since: Time


class ReloadStatus(Result, frozen=True):
    """A reload that is under way. `waits_for`: the children that are still to be replaced."""

    stage: Annotated[str, _one_of("trying", "replacing")]
    since: Time
    requested_by: str
    waits_for: list[str]


class SymptomStatus(Result, frozen=True):
    """A present fault of a pool. `name`: that of a log event; while it `degrades`, the pool is degraded."""

    name: str
    text: str
    degrades: bool
    since: Time


class WorkerStatus(Result, frozen=True):
    """A worker and the message that it runs; `attempt` is 0 while it runs none."""

    name: str
    slot: int
    pid: int | None
    generation: int | None
    state: Annotated[str, _one_of(*WORKER_STATES)]
    message_id: str
    attempt: int
    elapsed_s: float
    limit_s: Annotated[float, Meta(description="0: no limit.")]
    limit_source: Annotated[str, _one_of("pool", "message", "extended")]
    handled: int
    rss_bytes: int
    cpu_s: float
    restarts: int
    restart_in_s: Annotated[float | None, Meta(description="When it is replaced; null while it lives.")]


class ServiceStatus(Result, frozen=True):
    """A pool's forkserver or consumer."""

    pid: int | None
    state: str
    restarts: int
    why: str
    rss_bytes: int
    cpu_s: float


class ConsumerStatus(ServiceStatus, frozen=True):
    """A pool's consumer. `at`: when it was asked last, "" while it has said nothing yet."""

    connection: ConnectionStatus
    in_flight: Annotated[int, Meta(description="Messages delivered and not settled.")]
    notes: Annotated[list[str], Meta(description="The texts of the pool's symptoms.")]
    at: str


class PoolStatus(Result, frozen=True):
    """A pool. While workers are replaced, there are more of them than are wanted."""

    state: Annotated[str, _one_of(*POOL_STATES)]
    why: Annotated[str, Meta(description="The reason of its state.")]
    queue: str
    wanted: Annotated[int, Meta(description="The wanted number of workers, after `scale`.")]
    configured: Annotated[int, Meta(description="The number of workers in the configuration.")]
    paused: PauseStatus | None
    workers: list[WorkerStatus]
    forkserver: ServiceStatus
    consumer: ConsumerStatus
    symptoms: list[SymptomStatus]
    depth: QueueStatus
    counters: Annotated[dict[str, int], Meta(description="Messages by their end, since the first start.")]
    restarts: Annotated[dict[str, int], Meta(description="By kind of child, since the daemon's start.")]
    holds: int
    measures: Measurements


class SidecarStatus(Result, frozen=True):
    """A child that belongs to no pool. Of hooks: events that wait, and events that found no room."""

    kind: Annotated[str, _one_of("web", "hooks")]
    pid: int | None
    state: Annotated[str, _one_of("starting", "ready", "backoff", "held")]
    restarts: int
    why: str
    waiting: int | UnsetType = UNSET
    dropped: int | UnsetType = UNSET


class ExitCount(Result, frozen=True):
    """How often children of a pool ended in one way, over the life of the state directory."""

    pool: str
    kind: str
    cause: str
    status: int | None
    signal: str | None
    count: int


class LogStatus(Result, frozen=True):
    """Where the daemon's log goes: to a `file`, or to stderr ("-"), which a `reader` has."""

    file: str
    reader: Annotated[str, _one_of("journal", "terminal", "plain")]


class Status(Result, frozen=True):
    """The status object of docs/control-protocol.md."""

    version: str
    pid: int
    state: Annotated[str, _one_of(*DAEMON_STATES)]
    started_at: Time
    uptime_s: float
    rss_bytes: int
    cpu_s: float
    config: str
    state_dir: str
    runtime_dir: str
    reload: ReloadStatus | None
    pools: dict[str, PoolStatus]
    sidecars: list[SidecarStatus]
    exits: list[ExitCount]
    log: LogStatus | None = None


class FoundInPool(Result, frozen=True):
    """What a pool's consumer knows of messages; `why`: why it could not say. `total` counts those not named, too."""

    traces: list[Trace]
    why: str
    total: int = 0


class Found(Result, frozen=True):
    """The answer to `find` and `pending`, by pool."""

    pools: dict[str, FoundInPool]


class Changed(Result, frozen=True):
    """The answer to `pause` and `resume`."""

    changed: Annotated[bool, Meta(description="Whether the pool was not in this state already.")]


class Probed(Result, frozen=True):
    """The answer to `probe`. `why`: a line for each reason of a no."""

    ok: bool
    why: list[str]


class Tried(Result, frozen=True):
    """The answer to `retry`."""

    tried: Annotated[list[str], Meta(description="Children that are started now.")]


class Scaled(Result, frozen=True):
    """The answer to `scale`."""

    workers: int
    former: int
    prefetch: int


class PoolDrain(Result, frozen=True):
    """What became of a pool's messages in a stop. `cut_off`: ids of messages whose run was ended."""

    finished: int
    returned: int
    cut_off: list[str]


class DrainReport(Result, frozen=True):
    """The second answer to `stop`, just before the daemon ends."""

    pools: dict[str, PoolDrain]
    forced: bool
    took_s: float


class Reloaded(Result, frozen=True):
    """The answer to `reload` when all is replaced."""

    added: list[str]
    removed: list[str]
    changed: Annotated[dict[str, list[str]], Meta(description="Keys by section.")]
    reconnected: Annotated[list[str], Meta(description="Pools whose consumer was replaced.")]
    took_s: float
