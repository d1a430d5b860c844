"""What a pool's children say to the master, as two tables of frames, and the workers that are ready. Master only.

Nothing is decided here: a report changes the books (who is there, who is ready, what the consumer knows), and the loop
acts on them in its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import supervisor
from supervisor.link import frames
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool import protocol_errors
from supervisor.master.pool.adoption import adopt
from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.master.pool.failed_starts import stays_empty
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import in_trouble
from supervisor.scoreboard.words import Intent
from supervisor.system.clock import monotonic_s

_READY = {Kind.WORKER: Event.WORKER_READY, Kind.FORKSERVER: Event.FORKSERVER_READY}
"""A consumer announces itself: it knows what it consumes from."""

Reports = dict[type, Callable[[Pool, ChildSpec, Any], None]]
"""What to do with a frame of the child of this child spec."""


def hear_readiness(pool: Pool) -> None:
    """Take the words of workers that have become ready."""
    for number, generation in pool.endpoints.ready_workers():
        _worker_ready(pool, number, generation)


def _worker_ready(pool: Pool, number: int, generation: int) -> None:
    if number >= len(pool.workers):
        return
    spec = pool.workers[number]
    child = spec.child or adopt(pool, number, monotonic_s())
    if child is not None and child.generation == generation:
        _ready(pool, spec, child)


def _ready(pool: Pool, spec: ChildSpec, child: Child) -> None:
    if child.ready_s is not None:
        return
    child.became_ready(monotonic_s())
    if child.intent is Intent.BOOT_KILL:  # it was asked for its stacks, and is ready just in time
        child.mark(Intent.NONE, "")
    if not in_trouble(spec):
        spec.report("")
    if child.kind not in _READY:
        return
    log(
        _READY[child.kind],
        f"{child.name} is ready",
        pool=child.pool,
        slot=child.slot,
        pid=child.pid,
        generation=child.generation,
    )


def other_build(spec: ChildSpec, frame: frames.Build) -> str:
    """Why a child that speaks other frames than its master has left."""
    return (
        f"{spec.name}: preforkd on disk is another one (release {frame.release}, frames {frame.version}) than the "
        f"daemon that runs (release {supervisor.__version__}, frames {frames.VERSION}): restart it (`preforkd restart`)"
    )


def _other_build(pool: Pool, spec: ChildSpec, frame: frames.Build) -> None:
    spec.report(other_build(spec, frame))


# ---- the forkserver -----------------------------------------------------------------------------------------------


def _imported(pool: Pool, spec: ChildSpec, frame: frames.Imported) -> None:
    if spec.child is not None:
        _ready(pool, spec, spec.child)


def _boot_failed(pool: Pool, spec: ChildSpec, frame: frames.BootFailed) -> None:
    spec.report(frame.reason, frame.stack)


def _forked(pool: Pool, spec: ChildSpec, frame: frames.Forked) -> None:
    # fail-point: master.fork-told: a worker is forked, the books do not have it
    adopt(pool, frame.slot, monotonic_s())


def _fork_failed(pool: Pool, spec: ChildSpec, frame: frames.ForkFailed) -> None:
    worker = next((spec for spec in pool.workers if spec.slot == frame.slot), None)
    if worker is None or worker.ordered != frame.generation:
        return
    stays_empty(pool, worker, frame.reason)


FORK_REPORTS: Reports = {
    frames.Build: _other_build,
    frames.Imported: _imported,
    frames.BootFailed: _boot_failed,
    frames.Forked: _forked,
    frames.ForkFailed: _fork_failed,
}


# ---- the consumer -------------------------------------------------------------------------------------------------


def _exit_notice_taken(pool: Pool, spec: ChildSpec, frame: frames.ExitNoticeTaken) -> None:
    # fail-point: master.exit-notice-taken: the consumer has the exit notice, we still owe it
    if pool.consumer_channel.exit_notice_taken(frame.worker) and frame.ran:
        pool.account.crash_rate.add_kind(frame.ran, monotonic_s())


def _misunderstood(pool: Pool, spec: ChildSpec, frame: frames.Misunderstood) -> None:
    """The sender is ended only if it is the worker that it names: any process of this user can use the socket."""
    worker = next((spec for spec in pool.workers if spec.slot == frame.worker.slot), None)
    child = worker.child if worker is not None else None
    if child is not None and (child.generation, child.pid) == (frame.worker.generation, frame.pid):
        protocol_errors.end(child, frame.reason)


def _consuming(pool: Pool, spec: ChildSpec, frame: frames.Consuming) -> None:
    if spec.child is not None:
        _ready(pool, spec, spec.child)


def _refused(pool: Pool, spec: ChildSpec, frame: frames.Refused) -> None:
    spec.report(frame.reason)


def _snapshot(pool: Pool, spec: ChildSpec, frame: frames.Snapshot) -> None:
    pool.consumer_channel.reported(frame)


def _reported(pool: Pool, spec: ChildSpec, frame: frames.Drained | frames.Letters | frames.Stalled) -> None:
    pool.consumer_channel.reported(frame)


def _found(pool: Pool, spec: ChildSpec, frame: frames.Found) -> None:
    pool.consumer_channel.answered(frame)


CONSUMER_REPORTS: Reports = {
    frames.Build: _other_build,
    frames.Misunderstood: _misunderstood,
    frames.Stalled: _reported,
    frames.ExitNoticeTaken: _exit_notice_taken,
    frames.Consuming: _consuming,
    frames.Refused: _refused,
    frames.Drained: _reported,
    frames.Snapshot: _snapshot,
    frames.Letters: _reported,
    frames.Found: _found,
}
