"""Takes outcomes into the settlement: from a worker's frames while it talks, from its slot's ring when it cannot.

The ring is the truth; a frame is the same news sooner, with the whole stack. `taken` counts what was handed in, the
slot's tail what is durable: the tail follows only after the ledger's commit, so a consumer that dies in between
leaves the outcome in the ring for the next one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from supervisor.consumer.observe.measures import Histogram
from supervisor.consumer.settlement.messages import Failure
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.workers.dispatch import Dispatcher
from supervisor.errors import StateError
from supervisor.link.frames import ExitNotice, Incarnation, Outcome, RunId
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.scoreboard.slot import Slot, slot_numbers
from supervisor.scoreboard.words import Cell, OutcomeKind

IN_A_ROW = 5
"""So many runs of one worker must fail in a row, and as many of the other workers succeed meanwhile."""

_FAILURES = frozenset({OutcomeKind.FAILED, OutcomeKind.SOFT_TIMEOUT})
"""Endings that no handler asks for. `Retry` and `Reject` are decisions about a message and count neither way."""

_KINDS = {kind.value: kind for kind in OutcomeKind}
_NO_FAILURE = Failure(OutcomeKind.DONE, "")
_KIND_CHARACTERS = 80
_UNKNOWN_DEATH = Failure("lost", "its worker died")


class FailingWorkers:
    """Finds a worker whose runs fail while those of the other workers succeed: user code has spoilt its process. Pure.

    Not every change can be seen from outside: a library may keep a broken connection, a module a wrong setting. If all
    workers fail, or runs fail here and there, the fault is in the messages or outside of the workers, and a new process
    would be no better.
    """

    def __init__(self) -> None:
        self._done = 0
        self._failures: dict[Incarnation, tuple[int, int]] = {}  # in a row, and how many were done before them
        self._replaced: set[int] = set()

    def ended(self, worker: Incarnation, kind: OutcomeKind) -> bool:
        """A run has ended; True where its worker is to be replaced.

        A slot whose worker was replaced is not emptied for this again before a run in it has succeeded: where a new
        process fails as well, the process is not at fault.
        """
        if kind is OutcomeKind.DONE:
            self._done += 1
            if self._failures or self._replaced:
                self._replaced.discard(worker.slot)
                if (
                    worker in self._failures
                ):  # runs fail now and then in a sound process: no worker's row tells anything
                    self._failures.clear()
            return False
        if kind not in _FAILURES:
            return False
        failures, done_before = self._failures.get(worker, (0, self._done))
        self._failures[worker] = failures + 1, done_before
        is_spoilt = failures + 1 >= IN_A_ROW and self._done - done_before >= IN_A_ROW
        if not is_spoilt or worker.slot in self._replaced:
            return False
        self._replaced.add(worker.slot)
        return True

    def forget(self, worker: Incarnation) -> None:
        """The worker is dead."""
        self._failures.pop(worker, None)


class Outcomes:
    """The slots of one pool, as the consumer reads them; each is named by its `number`."""

    def __init__(
        self,
        pool_name: str,
        slots_dir: Path,
        settlement: Settlement,
        dispatcher: Dispatcher,
        handler_s: Histogram,
        retire: Callable[[Incarnation], object],
    ) -> None:
        """`retire`: asks a worker to give back what it has not begun, and to leave."""
        self._pool_name = pool_name
        self._slots_dir = slots_dir
        self._settlement = settlement
        self._dispatcher = dispatcher
        self._handler_s = handler_s
        self._retire = retire
        self._failing = FailingWorkers()
        self._slots: dict[int, Slot] = {}
        self._taken: dict[int, int] = {}
        self._moved: set[int] = set()
        self._deaths: dict[Incarnation, Failure] = {}
        self._kinds: dict[Incarnation, str] = {}  # of messages that were running when their worker died
        for number in slot_numbers(slots_dir):
            self.slot(number)

    def slot(self, number: int) -> Slot:
        """The slot file of this number, opened once. Raises StateError when there is none."""
        if number not in self._slots:
            path = self._slots_dir / f"{number}.slot"
            slot = self._slots[number] = Slot(path, make=False, mapped=False)
            self._taken[number] = slot.tail
        return self._slots[number]

    def renew(self, number: int) -> None:
        """A worker is about to take this slot, and its file may be a new one because the former was damaged."""
        slot = self._slots.get(number)
        if slot is None or slot.is_at_its_path():
            return
        self.hand_in(number)
        self._moved.discard(number)
        del self._slots[number]
        slot.close()

    def hand_in_all(self) -> None:
        """What all rings hold and no ledger has yet; at start."""
        for number in self._slots:
            self.hand_in(number)

    def hand_in(self, number: int) -> None:
        """What the ring of this slot holds beyond what was taken."""
        slot = self.slot(number)
        for cell in slot.cells(self._taken[number]):
            worker = Incarnation(number, cell.generation)
            if cell.kind is OutcomeKind.IN_DOUBT:
                self._note_kind(worker, cell.run)
            self._take(worker, cell.index, cell.run, cell.kind, self._failure_of(worker, cell), cell.elapsed_s)

    def collect(self, worker: Incarnation) -> None:
        """Take outcomes that a linked worker has marked and not reported: reports go out in batches, between runs.

        Nothing happens where its slot cannot be read, or has another owner by now.
        """
        if worker not in self._dispatcher:
            return
        try:
            identity = self.slot(worker.slot).identity()
            if identity is not None and identity.generation == worker.generation:
                self.hand_in(worker.slot)
        except StateError:
            return  # the master watches slot files, and ends the worker of a damaged one

    def heard(self, worker: Incarnation, outcome: Outcome) -> None:
        """A worker reports an outcome; one that does not follow the last is looked up in the ring."""
        if outcome.cell != self._taken.get(worker.slot):
            self.hand_in(worker.slot)
            return
        # fail-point: consumer.outcome-heard: a worker's outcome is read, nothing is decided
        kind = _KINDS[outcome.kind]
        failure = _NO_FAILURE
        if kind is not OutcomeKind.DONE:
            delay_s = _asked_delay_s(outcome.delay_s)
            failure = Failure(
                kind, outcome.reason, self.name(worker), outcome.stack, delay_s=delay_s, database=outcome.database
            )
        self._take(worker, outcome.cell, outcome.run, kind, failure, outcome.elapsed_s)

    def died(self, exit_notice: ExitNotice) -> None:
        """The master declares a worker dead: take what it left; then the run it was in is in doubt, the rest unbegun.

        The running mark is read before the ring: the slot's next owner writes them in the other order.
        """
        worker = exit_notice.worker
        how = exit_notice.signal or f"status {exit_notice.status}"
        reason = f"{self.name(worker)} ended while running it: {exit_notice.cause} ({how})"
        failure = Failure(
            exit_notice.cause, reason, self.name(worker), exit_notice.stack, exit_notice.status, exit_notice.signal
        )
        self._reap(worker, failure)

    def lost(self, worker: Incarnation, proof: bool) -> None:
        """A worker of a former master is dead; without `proof` (another boot) its marks prove nothing."""
        self._reap(worker, _UNKNOWN_DEATH, proof)

    def take_tails(self) -> dict[Slot, int]:
        """How far each ring was taken since the last call: for `advance_tails`, once that is durable."""
        tails = {self._slots[number]: self._taken[number] for number in self._moved}
        self._moved.clear()
        return tails

    def advance_tails(self, tails: dict[Slot, int]) -> None:
        """The outcomes up to these `tails` are durable: the workers may use their cells again."""
        for slot, taken in tails.items():
            with suppress(ValueError):  # the file is damaged: the master has its worker replaced
                slot.advance_tail(taken)

    def lives(self, worker: Incarnation) -> bool:
        """Whether this incarnation has its slot's lock now: its Hello may be read after its death was dealt with."""
        try:
            slot = self.slot(worker.slot)
        except StateError:  # there is no such slot
            return False
        identity = slot.identity()
        return slot.owner() is not None and identity is not None and identity.generation == worker.generation

    def take_kind(self, worker: Incarnation) -> str:
        """What kind of message this worker has died of, for people: by its type, else by its routing key; or ""."""
        return self._kinds.pop(worker, "")

    def name(self, worker: Incarnation) -> str:
        """The worker's one spelling: `email/3`."""
        return f"{self._pool_name}/{worker.slot}"

    def _replace(self, worker: Incarnation) -> None:
        self._dispatcher.leave(worker)
        self._retire(worker)
        log(
            Event.WORKER_FAILING,
            f"{self.name(worker)} has failed {IN_A_ROW} messages in a row while other workers of its pool did well: "
            "it is replaced; its last messages may show what user code changed in the process",
            level=logging.WARNING,
            pool=self._pool_name,
            slot=worker.slot,
            generation=worker.generation,
        )

    def _take(
        self, worker: Incarnation, index: int, run: RunId, kind: OutcomeKind, failure: Failure, elapsed_s: float
    ) -> None:
        """A run has ended: its outcome is in the cell with this `index` of its worker's ring."""
        self._settlement.outcome(worker, run, kind, failure)
        self._dispatcher.ended(worker, elapsed_s)
        if kind is not OutcomeKind.IN_DOUBT:  # that one was not timed
            self._handler_s.add(elapsed_s)
            if self._failing.ended(worker, kind):
                self._replace(worker)
        self._taken[worker.slot] = index + 1
        self._moved.add(worker.slot)

    def _reap(self, worker: Incarnation, failure: Failure, proof: bool = True) -> None:
        try:
            slot = self.slot(worker.slot)
        except StateError:  # its slot file is gone, and every mark with it
            self._settlement.died(worker, None, failure, proof=False)
            return
        self._failing.forget(worker)
        self._deaths[worker] = failure
        mark, identity = slot.running(), slot.identity()
        running = None
        if mark is not None and identity is not None and identity.generation == worker.generation:
            running = mark.run
            self._note_kind(worker, running)
            failure = msgspec.structs.replace(failure, database=mark.database)
        self.hand_in(worker.slot)
        self._settlement.died(worker, running, failure, proof and slot.marks_complete_since(worker.generation))
        del self._deaths[worker]

    def _note_kind(self, worker: Incarnation, run: RunId) -> None:
        entry = self._settlement.assignments.find(worker, run)
        if entry is None or entry.delivery is None:
            return
        kind, key = entry.delivery.properties.type, entry.delivery.routing_key
        if kind or key not in ("", self._settlement.pool.queue):
            self._kinds[worker] = (
                f"type {kind[:_KIND_CHARACTERS]!r}" if kind else f"routing key {key[:_KIND_CHARACTERS]!r}"
            )

    def _failure_of(self, worker: Incarnation, cell: Cell) -> Failure:
        if cell.kind is OutcomeKind.IN_DOUBT:
            return msgspec.structs.replace(self._deaths.get(worker, _UNKNOWN_DEATH), database=cell.database)
        reason, _, stack = cell.text.partition("\n")
        return Failure(
            cell.kind, reason, self.name(worker), stack, delay_s=_asked_delay_s(cell.delay_s), database=cell.database
        )


def _asked_delay_s(delay_s: float | None) -> float:
    """The delay of a Retry; 0 stands for the pool's own, so a Retry(0) becomes the shortest there is."""
    return 0.0 if delay_s is None or not math.isfinite(delay_s) else max(delay_s, 0.001)
