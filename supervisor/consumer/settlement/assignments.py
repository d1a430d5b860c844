"""Messages that wait for a worker, and the messages of each worker. Pure, part of the settlement."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from supervisor.consumer.settlement.copies import order_of
from supervisor.consumer.settlement.messages import Arrival, Entry, Phase
from supervisor.consumer.settlement.rivals import holder_of
from supervisor.consumer.settlement.unit_of_work import UnitOfWork
from supervisor.ledger.base import Rival, RowState
from supervisor.link.frames import Incarnation, RunId
from supervisor.messages.identity import DIGEST_BYTES


class Assignments:
    """The OWNED and PUBLISHING messages, by worker; keeps `Entry.owner` true. `waiting`, `held`: those in Phase.WAITING
    and HELD, by key, in order of arrival."""

    def __init__(self, decisions: UnitOfWork, queue: str) -> None:
        self.waiting: dict[bytes, Entry] = {}
        self.held: dict[bytes, Entry] = {}
        self._decisions = decisions
        self._queue = queue
        self._by_worker: dict[Incarnation, dict[bytes, Entry]] = {}

    def wait(self, entry: Entry) -> None:
        """The message waits for a worker."""
        entry.phase = Phase.WAITING
        self.waiting[entry.key] = entry

    def hold(self, entry: Entry, rival: Rival) -> None:
        """Another daemon has the message in hand; `rival`: by this row."""
        entry.phase, entry.holder = Phase.HELD, holder_of(rival)
        self.held[entry.key] = entry

    def take_held(self) -> list[Entry]:
        """The messages that other daemons had in hand; they are held no more."""
        held, self.held = list(self.held.values()), {}
        return held

    def fill(
        self, places: Iterable[Incarnation], is_over: Callable[[Entry], bool], begins_until_s: float = inf
    ) -> None:
        """Give waiting messages to workers, the oldest first, one for each of `places`. `is_over`: drops one of those
        that expire, if its time is over; asked as its turn comes. `begins_until_s`: as for `assign`."""
        workers = iter(places)
        worker = next(workers, None)
        for entry in list(self.waiting.values()):
            if worker is None:
                return
            if entry.expiry is None or not is_over(entry):
                self.assign(entry, worker, begins_until_s)
                worker = next(workers, None)

    def assign(self, entry: Entry, worker: Incarnation, begins_until_s: float = inf) -> None:
        """Give a waiting message to a worker: durable first, sent after. It may begin until `begins_until_s`
        (CLOCK_BOOTTIME)."""
        del self.waiting[entry.key]
        self.give(entry, worker)
        self._decisions.record(entry, RowState.DISPATCHED, entry.earlier.note)
        self._decisions.send(worker, order_of(entry, self._queue, begins_until_s))

    def give(self, entry: Entry, worker: Incarnation) -> None:
        """The message is this worker's from now on."""
        entry.phase, entry.owner = Phase.OWNED, worker
        self._by_worker.setdefault(worker, {})[entry.key] = entry

    def take_away(self, entry: Entry) -> None:
        """The message neither waits nor has a worker."""
        if entry.owner is None:
            self.waiting.pop(entry.key, None)
            self.held.pop(entry.key, None)
            return
        theirs = self._by_worker[entry.owner]
        del theirs[entry.key]
        if not theirs:
            del self._by_worker[entry.owner]
        entry.owner = None

    def find(self, worker: Incarnation, run: RunId) -> Entry | None:
        """The message of this run, if it is this worker's."""
        entry = self._by_worker.get(worker, {}).get(run.key)
        return entry if entry is not None and entry.run == run else None

    def of(self, worker: Incarnation) -> list[Entry]:
        """What this worker has: the one it runs and those it has not begun."""
        return list(self._by_worker.get(worker, {}).values())

    def perhaps(self, arrival: Arrival) -> Entry | None:
        """A message without an id that this redelivered one may be, as it lost its tags and has the same content.

        No proof, but reason to wait: a worker may have it unbegun and would run it after its repetition, which alone
        says that it may be one.
        """
        if not arrival.may_repeat:
            return None
        content = arrival.key[-DIGEST_BYTES:]
        alike = (
            entry
            for theirs in self._by_worker.values()
            for entry in theirs.values()
            if not entry.has_id and not entry.tags and entry.key.endswith(content)
        )
        return next(alike, None)

    def load(self, worker: Incarnation) -> int:
        """How many messages this worker has."""
        return len(self._by_worker.get(worker, ()))

    def workers(self) -> set[Incarnation]:
        """All workers that have any."""
        return set(self._by_worker)
