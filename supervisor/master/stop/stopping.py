"""Carries out a stop: what the master does in each phase of `phases.py`, and the drain report. Master only.

`Stopping` stops some pools: one that a reload removes (`Removals`, a duty), or all (`DaemonStop`, a duty).

A worker that cannot be ended is left behind once all others are done. Its message stays dispatched in the ledger and in
its slot, which no other worker gets while it lives.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Collection, Iterator, Mapping

import msgspec

from supervisor.control.protocol import Pending, Result
from supervisor.control.results import DrainReport, PoolDrain
from supervisor.link.frames import Drain, Quit
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool.children import Child, Children, Kind
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.pools import Pools
from supervisor.master.pool.signalling import OVERDUE_S, cannot_be_ended, send
from supervisor.master.stop.phases import Facts, Stop, StopPhase
from supervisor.scoreboard.words import Intent
from supervisor.system.clock import monotonic_s

CALLED_BACK_S = 1.0
"""After so long in a drain a worker that runs nothing has no message left: the consumer has called them back."""

_AFTER_IT = "the next daemon follows on_crash once the process has ended"
_BESIDE_IT = "the next daemon follows on_crash, and may run it beside the process: end the process first"

_SERVICES = (Kind.FORKSERVER, Kind.CONSUMER)

_TOLD_TO_QUIT = {
    StopPhase.LEAVING: (Kind.FORKSERVER,),
    StopPhase.KILLING: (Kind.FORKSERVER,),  # again: a stop with `now` has left LEAVING out
    StopPhase.QUITTING: (Kind.CONSUMER,),
}


class Stopping:
    """A stop of some pools under way. `proceed` in every turn; over when `stop.phase` is GONE."""

    def __init__(self, stop: Stop, pools: Collection[Pool], children: Children) -> None:
        self.stop = stop
        self._pools = list(pools)
        self._children = children
        self._forced = False
        for pool in pools:
            # fail-point: master.stop-wanted: a stop is wanted, no child was told
            pool.consumer_channel.send(Drain())

    def proceed(self, now_s: float) -> None:
        """Go on as far as possible now."""
        while self.stop.advance(self._facts(now_s), now_s):
            for kind in _TOLD_TO_QUIT.get(self.stop.phase, ()):
                self._quit(kind)
            if self.stop.phase is StopPhase.QUITTING:
                self._leave_behind(now_s)
        if self._act(now_s):
            self.proceed(now_s)

    @property
    def due_s(self) -> float:
        """When to proceed although nothing happens (CLOCK_MONOTONIC)."""
        return min(self.due_times(monotonic_s()), default=float("inf"))

    def due_times(self, now_s: float) -> Iterator[float]:
        """All times after `now_s` at which a phase or a wait ends. What is late is waited for: its end wakes us."""
        killed = (child.killed_s + OVERDUE_S for child in self._of_kind(Kind.WORKER) if child.killed_s is not None)
        times = (self.stop.due_s, self.stop.started_s + CALLED_BACK_S, *killed)
        return (due_s for due_s in times if due_s > now_s)

    def report(self, now_s: float) -> DrainReport:
        """The drain report (docs/control-protocol.md)."""
        pools = {pool.name: _pool_report(pool) for pool in self._pools}
        return DrainReport(pools=pools, forced=self._forced, took_s=round(now_s - self.stop.started_s, 3))

    def _facts(self, now_s: float) -> Facts:
        waited_for = [child for child in self._of_kind(Kind.WORKER) if not cannot_be_ended(child, now_s)]
        ordered = sum(spec.ordered is not None for pool in self._pools for spec in pool.workers)
        living = [pool for pool in self._pools if pool.consumer.child is not None]
        # a consumer cannot settle the message of a worker that is left behind
        stuck = {child.pool for child in self._children if cannot_be_ended(child, now_s)}
        called_back = now_s >= self.stop.started_s + CALLED_BACK_S
        busy = {child.pool for child in waited_for if child.runs} if stuck and called_back else set()
        alone = stuck - busy if called_back else set()
        drained = all(pool.consumer_channel.drained is not None or pool.name in alone for pool in living)
        settled = all(pool.consumer_channel.drained is not None or pool.name in stuck for pool in living)
        settled = settled and not any(pool.consumer_channel.owes_exit_notices for pool in living)
        services = [child for kind in _SERVICES for child in self._of_kind(kind) if not child.unkillable]
        return Facts(drained=drained, settled=settled, workers=len(waited_for) + ordered, others=len(services))

    def _leave_behind(self, now_s: float) -> None:
        """Log the workers that are left, and what happens to their messages."""
        for child in self._of_kind(Kind.WORKER):
            assert child.slot is not None  # a worker has one
            running, fate = self._pool_of(child).slots[child.slot].running(), "it runs no message"
            if running is not None:
                self._pool_of(child).account.cut_off.append(running.message_id)
                later = _BESIDE_IT if child.unkillable else _AFTER_IT
                fate = f"its message {running.message_id} stays in doubt: {later}"
            text = f"{cannot_be_ended(child, now_s)}; the stop leaves it behind, and {fate}"
            log(Event.CHILD_UNKILLABLE, text, level=logging.ERROR, pool=child.pool, slot=child.slot, pid=child.pid)

    def _act(self, now_s: float) -> bool:
        """Again in every turn: a worker may be born of an order that was under way. True if one cannot be ended."""
        before = len(self._unkillable())
        if self.stop.phase >= StopPhase.LEAVING:
            for child in self._of_kind(Kind.WORKER):
                by_force = self.stop.phase >= StopPhase.KILLING or (self.stop.overran and child.runs)
                self._signal(child, by_force, now_s)
        if self.stop.phase >= StopPhase.ENDING:
            for kind in _SERVICES:
                for child in self._of_kind(kind):
                    self._signal(child, by_force=True, now_s=now_s)
        return len(self._unkillable()) > before

    def _unkillable(self) -> list[Child]:
        return [child for child in self._children if child.unkillable]

    def _signal(self, child: Child, by_force: bool, now_s: float) -> None:
        intent, signum = (Intent.STOP_KILL, signal.SIGKILL) if by_force else (Intent.STOP, signal.SIGTERM)
        if child.intent >= intent:
            return
        self._forced = self._forced or by_force
        child.mark(intent, self.stop.requested_by)
        # fail-point: master.stop-intended: the intent is in the slot, no signal is sent
        send(child, signum, now_s)
        # fail-point: master.stop-signalled: a child is told to leave

    def _quit(self, kind: Kind) -> None:
        for child in self._of_kind(kind):
            child.send(Quit())
            child.mark(Intent.STOP, self.stop.requested_by)

    def _of_kind(self, kind: Kind) -> list[Child]:
        names = {pool.name for pool in self._pools}
        return [child for child in self._children.of_kind(kind) if child.pool in names]

    def _pool_of(self, child: Child) -> Pool:
        return next(pool for pool in self._pools if pool.name == child.pool)


class DaemonStop:
    """The stop of the daemon, with all its `pools`. `current`: the stop under way, None before it is requested."""

    does = "proceed with the stop"

    def __init__(self, pools: Mapping[str, Pool], children: Children) -> None:
        self.current: Stop | None = None
        self._pools = pools
        self._children = children
        self._stopping: Stopping | None = None
        self._waiting: list[Pending] = []

    @property
    def under_way(self) -> bool:
        """Whether it has been requested."""
        return self._stopping is not None

    @property
    def gone(self) -> bool:
        """Whether all children of the pools have ended."""
        return self.current is not None and self.current.phase is StopPhase.GONE

    @property
    def due_s(self) -> float:
        """When `turn` is needed next (CLOCK_MONOTONIC)."""
        return float("inf") if self._stopping is None else self._stopping.due_s

    def request(self, requested_by: str, limit_s: float, now: bool) -> None:
        """Stop, or hurry a stop that is under way. `requested_by`: for log and exit records; `limit_s`: how long the
        drain may take, in seconds; `now`: end what still runs at once."""
        now_s = monotonic_s()
        if self.current is not None:
            if now:
                self.current.hurry(now_s)
            return
        log(Event.DAEMON_STOPPING, f"stopping ({requested_by})", requested_by=requested_by, now=now, timeout_s=limit_s)
        self.current = Stop(requested_by, now_s, limit_s, now)
        self._stopping = Stopping(self.current, self._pools.values(), self._children)

    def tell_report(self, first: Result) -> Pending:
        """An answer that is complete once the stop is. `first`: what is answered at once."""
        self._waiting.append(Pending(first=first))
        return self._waiting[-1]

    def turn(self, now_s: float) -> None:
        """Go on as far as possible now."""
        if self._stopping is not None:
            self._stopping.proceed(now_s)

    def finish(self) -> None:
        """All children have ended: report. Does nothing when no stop was requested."""
        if self._stopping is None:
            return
        report, by = self._stopping.report(monotonic_s()), self._stopping.stop.requested_by
        log(Event.DAEMON_STOPPED, "stopped", requested_by=by, **msgspec.to_builtins(report))
        for pending in self._waiting:
            pending.complete(report)


class Removals:
    """A duty: pools that a reload has removed from the configuration, or whose code has failed its trial."""

    does = "remove pools"

    def __init__(self, pools: Pools, children: Children) -> None:
        self._pools = pools
        self._children = children
        self._under_way: list[tuple[Pool, Stopping]] = []

    @property
    def due_s(self) -> float:
        """When `turn` is needed next (CLOCK_MONOTONIC)."""
        return min((stopping.due_s for _pool, stopping in self._under_way), default=float("inf"))

    def begin(self, pool: Pool, requested_by: str, at_once: bool = False) -> None:
        """Stop this pool. `requested_by`: for exit records; `at_once`: without a drain, when it has run no message."""
        pool.leave()
        stop = Stop(requested_by, monotonic_s(), self._pools.config.daemon.stop_timeout_s, now=at_once)
        self._under_way.append((pool, Stopping(stop, [pool], self._children)))

    def turn(self, now_s: float) -> None:
        """Go on with each stop; close the pools whose children have ended."""
        for removal in list(self._under_way):
            pool, stopping = removal
            stopping.proceed(now_s)
            if stopping.stop.phase is StopPhase.GONE:
                self._under_way.remove(removal)
                self._pools.remove(pool)


def _pool_report(pool: Pool) -> PoolDrain:
    finished, returned, cut_off = 0, 0, list[str]()
    if (drained := pool.consumer_channel.drained) is not None:
        finished, returned, cut_off = drained.finished, drained.returned, drained.cut_off
    ids = list(dict.fromkeys([*cut_off, *pool.account.cut_off]))
    return PoolDrain(finished=finished, returned=returned, cut_off=ids)
