"""The worker's loop: receives messages from its consumer, runs the handler, marks and reports the outcome of each run.

`run()` lasts until there is a reason to leave, `turn()` is one pass. One message at a time. The mark in the slot always
precedes the frame, so that the outcome survives the death of either process. A run begins only if a cell of the ring is
free for its outcome, and after the socket was read: a Recall is obeyed before the next start.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from os import getpid
from typing import NamedTuple

from supervisor.api import Message, _inboxes
from supervisor.link.frames import (
    VERSION,
    Bye,
    Hello,
    Outcome,
    Publish,
    Published,
    Recall,
    Returned,
    Run,
    RunId,
    Welcome,
    WorkerFrame,
)
from supervisor.logs.prints import prints
from supervisor.logs.run_fields import run_fields
from supervisor.messages.inbox_run import InboxError, InboxRun
from supervisor.messages.message import Publication
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import LeavingReason, OutcomeKind
from supervisor.system.clock import boottime_s, monotonic_s, wall_s
from supervisor.worker.handler_call import DONE, Ending, collected
from supervisor.worker.limits import Alarm, LimitPolicy, Recycling
from supervisor.worker.requests import Requests
from supervisor.worker.upkeep import Upkeep
from supervisor.worker.uplink import Uplink

_FULL_RING_POLL_S = 0.01
_FAREWELL_S = 5.0
_BATCH = 64
_BATCH_S = 0.001


class WorkerAddress(NamedTuple):
    """A worker's slot and generation, its queue, and the link socket of its consumer."""

    slot: int
    generation: int
    queue: str
    link_path: str


class Limits(NamedTuple):
    """The limits of a run (policy and alarm), the limits of the worker's life, and the upkeep of its process."""

    policy: LimitPolicy
    alarm: Alarm
    recycling: Recycling
    upkeep: Upkeep


class _Publishing(NamedTuple):
    """A run whose handler has returned and whose publishes are not confirmed yet."""

    run: RunId
    publications: list[Publication]
    elapsed_s: float


class Worker:
    """One worker between its boot and its exit.

    `handle(message)` runs the handler. `ready()` is called once, after the first Hello.
    """

    def __init__(
        self,
        address: WorkerAddress,
        slot: Slot,
        handle: Callable[[Message], Ending],
        limits: Limits,
        requests: Requests,
        ready: Callable[[], None],
    ) -> None:
        self._address = address
        self._slot = slot
        self._handle = handle
        self._policy, self._alarm, self._recycling, self._upkeep = limits
        self._requests = requests
        self._ready = ready
        self._is_ready = self._is_failing = False
        self._pid = getpid()
        self._link = Uplink(address.link_path, self._greeting)
        self._runs: deque[Run] = deque()
        self._publishing: _Publishing | None = None
        self._present: Run | None = None
        self._database = b""  # whose inbox the present run uses
        _inboxes.made_by(self._inbox_of)
        self._unflushed = 0
        self._flushed_s = 0.0
        self._obey: dict[type, Callable[..., object]] = {
            Run: self._runs.append,
            Recall: self._recalled,
            Published: self._published,
            Welcome: self._link.welcomed,
        }

    def run(self) -> LeavingReason:
        """Serve until there is a reason to leave; requeue, send Bye, and return the reason."""
        while (reason := self.turn()) is None:
            pass
        self._take_leave(reason)
        return reason

    def close(self) -> None:
        """Close the link to the consumer."""
        self._link.close()

    def turn(self) -> LeavingReason | None:
        """One pass: wait, receive frames, then return a reason to leave, or run the next message."""
        self._wait()
        self._listen()
        now_s = monotonic_s()
        self._upkeep.look(now_s)
        if self._publishing is not None:
            return None
        reason = self._reason_to_leave(now_s)
        if reason is None and self._may_start():
            self._begin(self._runs.popleft())
        return reason

    # ---- waiting and receiving ------------------------------------------------------------------------------------

    def _wait(self) -> None:
        if self._may_start():
            return
        self._alarm.rest()
        self._flush()
        self._requests.take_back()
        wait_s = self._wait_s()
        self._link.wait(self._requests, None if wait_s == math.inf else wait_s)
        self._requests.drain()

    def _wait_s(self) -> float:
        now_s = monotonic_s()
        if self._publishing is not None:
            return self._upkeep.due_in_s(now_s)
        if self._reason_to_leave(now_s) is not None:
            return 0.0
        age_left_s = max(0.0, min(self._recycling.age_left_s(now_s), self._upkeep.due_in_s(now_s)))
        return min(age_left_s, _FULL_RING_POLL_S) if self._runs else age_left_s  # no frame announces a free cell

    def _listen(self) -> None:
        if self._link.connect_when_due() and not self._is_ready:
            self._is_ready = True
            self._ready()
        for frame in self._link.receive():
            self._obey[type(frame)](frame)
        self._link.confirm()

    def _may_start(self) -> bool:
        return bool(self._runs) and self._publishing is None and self._slot.free_cell()

    # ---- running --------------------------------------------------------------------------------------------------

    def _begin(self, run: Run) -> None:
        """Run it, or give it back if its time is over: the consumer decides about it.

        Of this one reading of the clock the run's last end is counted: a worker that is stopped behind it begins
        nothing late, because the kernel's timer then kills it before the handler is called.
        """
        began_s = boottime_s()
        if run.due_s and began_s >= run.due_s:
            self._link.send(Returned([run.run]))
            self._flush()
        else:
            self._run(run, began_s)

    def _run(self, run: Run, began_s: float) -> None:
        self._upkeep.begin()
        self._present, self._database = run, b""
        message = self._message(run)
        run_fields.begin(run)
        limit = self._policy.limit_for(message.headers)
        started_s = monotonic_s()
        # fail-point: worker.unbegun: a message is about to begin, no mark says so
        self._slot.mark_running(run.run, run.id, wall_s(), started_s, started_s + limit.hard_s, limit.source)
        # fail-point: worker.running-marked: the run has begun, its handler was not called
        message.limit = self._alarm.begin(limit, started_s, began_s)
        try:
            ending = self._handle(message)
        finally:
            self._alarm.end()
        self._present = None
        if getpid() != self._pid:
            _leave_as_a_stray_child(ending)
        prints.end_run()
        run_fields.end()
        # fail-point: worker.handler-over: the handler has ended, no mark says how
        self._recycling.handled += 1
        elapsed_s = monotonic_s() - started_s
        ending, publications = collected(message) if ending is DONE else (ending, [])
        if publications:
            self._publish(_Publishing(run.run, publications, elapsed_s))
        else:
            self._settle(run.run, ending, elapsed_s)

    def _message(self, run: Run) -> Message:
        return Message(
            run.body,
            run.id,
            run.properties,
            self._address.queue,
            run.exchange,
            run.routing_key,
            run.run.round,
            run.run.attempt,
            run.redelivered,
            run.maybe_duplicate,
            key=run.run.key,
        )

    def _inbox_of(self, message: Message) -> InboxRun:
        """The state of the inbox for the present run. Raises InboxError for a message of another run."""
        run = self._present
        if run is None or run.run != RunId(message.key, message.round, message.attempt):
            raise InboxError("once: the run of this message is over")
        return InboxRun(run.database, run.given_up, lambda database: self._mark_inbox(run.run, database))

    def _mark_inbox(self, run: RunId, database: bytes) -> None:
        # fail-point: worker.inbox-unmarked: `once` has found its database, no mark names it
        self._slot.mark_inbox(run, database)
        # fail-point: worker.inbox-marked: the slot names the inbox that is about to be used, it has no row
        self._database = database

    def _settle(self, run: RunId, ending: Ending, elapsed_s: float) -> None:
        """Mark the outcome, then report it: from the mark on, the run will not happen again (I2)."""
        text = f"{ending.reason}\n{ending.stack}" if ending.reason else ""
        cell = self._slot.mark_outcome(ending.kind, ending.delay_s, elapsed_s, text)
        # fail-point: worker.outcome-marked: the run is over, no process was told
        self._link.send(
            Outcome(cell, run, ending.kind, ending.delay_s, ending.reason, ending.stack, elapsed_s, self._database)
        )
        self._unflushed += 1
        if self._unflushed >= _BATCH or monotonic_s() - self._flushed_s >= _BATCH_S:
            self._flush()

    def _flush(self) -> None:
        self._link.flush()
        # fail-point: worker.flushed: what was queued is with the consumer
        self._unflushed = 0
        self._flushed_s = monotonic_s()

    # ---- publishing -----------------------------------------------------------------------------------------------

    def _publish(self, publishing: _Publishing) -> None:
        """Send the publishes; the run is done once they are confirmed, without a time limit."""
        self._slot.mark_publishing()
        self._publishing = publishing
        # fail-point: worker.publishing-marked: the handler has returned, its publishes are only here
        self._link.send(Publish(publishing.run, publishing.publications))

    def _published(self, fate: Published) -> None:
        publishing = self._publishing
        if publishing is None or fate.run != publishing.run:
            return  # the answer to a Publish that was sent twice
        self._publishing = None
        # fail-point: worker.published: the broker has the publishes, the run is still open
        failed = Ending(OutcomeKind.PUBLISH_FAILED, None, f"publish failed: {fate.reason}")
        self._settle(publishing.run, DONE if fate.ok else failed, publishing.elapsed_s)

    # ---- requeueing and leaving -----------------------------------------------------------------------------------

    def _greeting(self) -> list[WorkerFrame]:
        """The first frames of a connection: all held runs, and a Publish without an answer."""
        address, publishing = self._address, self._publishing
        held = [run.run for run in self._runs]
        hello = Hello(VERSION, address.slot, address.generation, self._pid, held)
        if publishing is None:
            return [hello]
        held.insert(0, publishing.run)
        return [hello, Publish(publishing.run, publishing.publications)]

    def _recalled(self, frame: Recall) -> None:
        self._is_failing = self._is_failing or frame.leave
        if not self._is_failing:  # else everything is requeued at the exit
            self._requeue()

    def _requeue(self) -> None:
        self._link.send(Returned([run.run for run in self._runs]))
        self._runs.clear()
        self._flush()
        # fail-point: worker.given-back: unstarted runs are with the consumer again

    def _reason_to_leave(self, now_s: float) -> LeavingReason | None:
        if self._requests.stop:
            return LeavingReason.STOP
        if self._is_failing:
            return LeavingReason.FAILING
        return LeavingReason.SPOILED if self._upkeep.spoilt else self._recycling.due(now_s)

    def _take_leave(self, reason: LeavingReason) -> None:
        self._alarm.rest()
        # fail-point: worker.reason-found: about to leave, no mark says so
        self._slot.mark_leaving(reason)
        # fail-point: worker.leaving-marked: the reason is marked, held runs are not requeued
        self._requeue()
        self._link.send(Bye(reason))
        self._link.flush_within(_FAREWELL_S)
        # fail-point: worker.bye-sent: everything is requeued, the process has not ended


def _leave_as_a_stray_child(ending: Ending) -> None:
    """End a child that a handler has forked and that returned from it: it must touch neither slot nor link."""
    raise SystemExit(os.EX_OK if ending is DONE else os.EX_SOFTWARE)
