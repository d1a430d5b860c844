"""Work in hand that does not move: workers that have messages and begin none, and a pool in which nothing goes on.

Runs in the consumer process, by the clock. A worker is named to the master, which alone may end it, and whose exit
notice frees its messages. It must not blame a worker for other faults: while the disk is slow no message is handed out,
and a look that comes late means that no process was running.
"""

from __future__ import annotations

from collections import Counter

from supervisor.consumer.observe.observer import Observer
from supervisor.consumer.settlement.messages import Phase
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.turn.commit_pipeline import CommitPipeline
from supervisor.consumer.workers.outcomes import Outcomes
from supervisor.errors import StateError
from supervisor.link.frames import Incarnation, Stalled
from supervisor.logs.events import Event

LOOK_S = 2.0
NOTICED_S, NAMED_S = 10.0, 30.0
"""After so long a worker that begins nothing is a symptom, and is named to the master."""
STALLED_S = 30.0
_LATE_S = 2.0

_WAITS_FOR = {
    Phase.WAITING: "for a worker",
    Phase.OWNED: "in workers that do not begin them",
    Phase.COPYING: "for the broker to take their copies",
}

Progress = tuple[int, float]
"""How much was done, and since when (CLOCK_MONOTONIC) it has been that much."""


class Stalls:
    """Detects work that does not move in one session."""

    def __init__(
        self, settlement: Settlement, outcomes: Outcomes, pipeline: CommitPipeline, observer: Observer
    ) -> None:
        self._settlement = settlement
        self._outcomes = outcomes
        self._pipeline = pipeline
        self._counters = observer.measures.counters
        self._health = observer.health
        self._progress_of: dict[Incarnation, Progress] = {}
        self._moved: Progress = (-1, 0.0)
        self._looked_s = 0.0
        self._named: list[Stalled] = []

    def take(self) -> list[Stalled]:
        """The workers that the master should end, since the last call."""
        named, self._named = self._named, []
        return named

    def look(self, now_s: float) -> None:
        """One look at all workers that have messages, and at the pool. `now_s`: CLOCK_MONOTONIC."""
        late = now_s - self._looked_s > LOOK_S + _LATE_S
        self._looked_s = now_s
        if late or self._pipeline.held_up:
            self._progress_of.clear()
            self._moved = (-1, now_s)
        assignments = self._settlement.assignments
        for worker in assignments.workers():
            self._outcomes.collect(worker)
        handled = {worker: self._idle(worker) for worker in assignments.workers()}
        idle = {worker: count for worker, count in handled.items() if count >= 0}
        self._look_at_workers(idle, now_s)
        self._look_at_pool(len(idle) < len(handled), now_s)

    def _look_at_workers(self, idle: dict[Incarnation, int], now_s: float) -> None:
        self._progress_of = {
            worker: _progress(self._progress_of.get(worker), handled, now_s) for worker, handled in idle.items()
        }
        waited_s = {worker: now_s - since_s for worker, (_handled, since_s) in self._progress_of.items()}
        stalled = {worker: seconds for worker, seconds in waited_s.items() if seconds >= NOTICED_S}
        if not stalled:
            self._health.heal(Event.WORKER_STALLED)
            return
        held = {worker: len(self._settlement.assignments.of(worker)) for worker in stalled}
        told = ", ".join(f"{self._outcomes.name(worker)} has {held[worker]}" for worker in stalled)
        text = f"workers do not begin their messages: {told}; it is ended after {NAMED_S:.0f} s of this"
        self._health.notice(Event.WORKER_STALLED, text, degrades=True)
        self._named += [Stalled(worker, held[worker], s) for worker, s in stalled.items() if s >= NAMED_S]

    def _idle(self, worker: Incarnation) -> int:
        """How many runs a worker that could begin one, and has not, has ended; -1 for one that is at work."""
        try:
            slot = self._outcomes.slot(worker.slot)
        except StateError:
            return -1
        identity = slot.identity()
        if identity is None or identity.generation != worker.generation:
            return -1  # its successor has the slot: the exit notice is on its way
        return -1 if slot.running() is not None or not slot.free_cell() else slot.handled

    def _look_at_pool(self, at_work: bool, now_s: float) -> None:
        refused = self._settlement.publications.refused
        waiting: Counter[Phase] = Counter(
            entry.phase
            for entry in self._settlement.entries.values()
            if entry.delivery is not None
            and entry.phase is not Phase.HELD  # another host has that one
            and (entry.phase is not Phase.COPYING or entry.token not in refused)
        )
        if not waiting or at_work or not self._health.publishing or not self._settlement.accepting:
            self._moved = (-1, now_s)
        ended = sum(count for name, count in self._counters.items() if name != "delivered")
        self._moved = _progress(self._moved, ended, now_s)
        if now_s - self._moved[1] < STALLED_S:
            self._health.heal(Event.POOL_STALLED)
            return
        told = ", ".join(f"{waiting[phase]} {why}" for phase, why in _WAITS_FOR.items() if waiting[phase])
        text = f"nothing runs and nothing was finished for {STALLED_S:.0f} s, but messages wait: {told}"
        self._health.notice(Event.POOL_STALLED, text, degrades=True)


def _progress(former: Progress | None, done: int, now_s: float) -> Progress:
    return former if former is not None and former[0] == done else (done, now_s)
