"""What a pool's children say to the master, as two tables of frames, and the workers that are ready. Master only.

Nothing is decided here: a report changes the books (who is there, who is ready, what the consumer knows), and the loop
acts on them in its turn.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

import supervisor
from supervisor.link import frames
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool.adoption import adopt
from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.master.pool.exit_records import NOT_UNDERSTOOD
from supervisor.master.pool.owner import stays_empty
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import in_trouble
from supervisor.master.pool.signalling import send
from supervisor.scoreboard.words import Intent
from supervisor.system.clock import monotonic_s

_READY = {Kind.WORKER: Event.WORKER_READY, Kind.FORKSERVER: Event.FORKSERVER_READY}
"""A consumer announces itself: it knows what it consumes from."""

Reports = dict[type, Callable[[Pool, ChildSpec, Any], None]]
"""What to do with a frame of the child of this child spec."""

_REASON_CHARACTERS = 500


def hear_readiness(pool: Pool) -> None:
    """Take the words of workers that have become ready."""
    for number, generation in pool.endpoints.ready_workers():
        spec = pool.worker(number)
        child = None if spec is None else spec.child or adopt(pool, number, monotonic_s())
        if spec is not None and child is not None and child.generation == generation:
            _ready(spec, child)


def _ready(spec: ChildSpec, child: Child) -> None:
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


def end_misunderstood(child: Child, reason: str) -> None:
    """Kill this child, once. `reason`: what was not understood, for log and exit record.

    After a frame that does not exist, or a value out of range, its next frames cannot be trusted either, and a guess
    may cost a message.
    """
    if child.intent is Intent.PROTOCOL_KILL:
        return
    what = f"{NOT_UNDERSTOOD}: {reason[:_REASON_CHARACTERS]}"
    log(
        Event.FRAME_REFUSED,
        f"{child.name} {what}; it is ended",
        level=logging.ERROR,
        pool=child.pool,
        slot=child.slot,
        pid=child.pid,
        reason=reason[:_REASON_CHARACTERS],
    )
    end_child(child, what)


def end_child(child: Child, what: str) -> None:
    """Kill a child whose channel is of no use. `what`: for its exit record."""
    child.mark(Intent.PROTOCOL_KILL, what)
    send(child, signal.SIGKILL, monotonic_s())


def _child_ready(pool: Pool, spec: ChildSpec, frame: frames.Imported | frames.Consuming) -> None:
    if spec.child is not None:
        _ready(spec, spec.child)


def _forked(pool: Pool, spec: ChildSpec, frame: frames.Forked) -> None:
    # fail-point: master.fork-told: a worker is forked, the books do not have it
    adopt(pool, frame.slot, monotonic_s())


def _fork_failed(pool: Pool, spec: ChildSpec, frame: frames.ForkFailed) -> None:
    worker = pool.worker(frame.slot)
    if worker is not None and worker.ordered == frame.generation:
        stays_empty(pool, worker, frame.reason)


def _exit_notice_taken(pool: Pool, spec: ChildSpec, frame: frames.ExitNoticeTaken) -> None:
    # fail-point: master.exit-notice-taken: the consumer has the exit notice, we still owe it
    if pool.consumer_channel.exit_notice_taken(frame.worker) and frame.ran:
        pool.account.crash_rate.add_kind(frame.ran, monotonic_s())


def _misunderstood(pool: Pool, spec: ChildSpec, frame: frames.Misunderstood) -> None:
    """The sender is ended only if it is the worker that it names: any process of this user can use the socket."""
    worker = pool.worker(frame.worker.slot)
    child = worker.child if worker is not None else None
    if child is not None and (child.generation, child.pid) == (frame.worker.generation, frame.pid):
        end_misunderstood(child, frame.reason)


FORK_REPORTS: Reports = {
    frames.Build: lambda pool, spec, frame: spec.report(other_build(spec, frame)),
    frames.Imported: _child_ready,
    frames.BootFailed: lambda pool, spec, frame: spec.report(frame.reason, frame.stack),
    frames.Forked: _forked,
    frames.ForkFailed: _fork_failed,
}

CONSUMER_REPORTS: Reports = {
    frames.Build: lambda pool, spec, frame: spec.report(other_build(spec, frame)),
    frames.Misunderstood: _misunderstood,
    frames.ExitNoticeTaken: _exit_notice_taken,
    frames.Consuming: _child_ready,
    frames.Refused: lambda pool, spec, frame: spec.report(frame.reason),
    frames.Found: lambda pool, spec, frame: pool.consumer_channel.answered(frame),
    **dict.fromkeys(
        (frames.Snapshot, frames.Drained, frames.Letters, frames.Stalled),
        lambda pool, spec, frame: pool.consumer_channel.reported(frame),
    ),
}
