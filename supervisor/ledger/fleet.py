"""The ledger of a pool in a fleet: this host's own (SQLite) for what was begun here, and the store for who may begin.

Runs in the consumer. A turn's outcomes go to the host's ledger and to the store at the same time, its claims to the
store first: a claim that is refused leaves nothing here. While the store is away there are no results. So nothing new
starts, and no message is settled at the broker that the store does not know as settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from pathlib import Path

from supervisor.errors import LedgerError
from supervisor.fleet.calls import Entry, Refusal
from supervisor.ledger.base import GRANTED, Ledger, Result, Rival, Row, RowState
from supervisor.ledger.fleet_rows import Plan, Run, corrected, holding, planned, reconciled, rival
from supervisor.ledger.fleet_store import Store
from supervisor.ledger.witness import Mark
from supervisor.system.clock import boottime_s
from supervisor.system.descriptor_set import READ, DescriptorSet
from supervisor.system.posix import readable

MAINTAIN_S = 3600.0
"""How often a pool does the upkeep of the history at most."""


class _Step(Enum):
    """What a request waits for."""

    STORE = auto()  # its answer; the host's ledger may still be writing
    ANSWERED = auto()  # the host's ledger to have written the outcomes, before it gets what follows from the answer
    HOST = auto()  # the host's ledger to have written all
    NOTHING = auto()


class FleetLedger(Ledger):
    """`host`: this host's ledger, open. `store`: with an epoch for it. `descriptors`: those of the store. All three are
    closed with this. `is_tracked`: whether the fleet knows a row's message; rows of others stay on the host.
    """

    def __init__(
        self, host: Ledger, store: Store, descriptors: DescriptorSet, is_tracked: Callable[[Row], bool]
    ) -> None:
        self.found = host.found
        self._host = host
        self._store = store
        self._descriptors = descriptors
        self._is_tracked = is_tracked
        self._held: dict[bytes, Run] = {}  # our open rows in the store
        self._plan = Plan({}, {}, [], [])
        self._counters: Mapping[str, int] = {}  # to be written together with granted claims
        self._step = _Step.NOTHING
        self._result = GRANTED
        self._failed = False
        self._closed = False
        self._maintained_s = float("-inf")
        if (descriptor := host.fileno()) is not None:
            descriptors.watch(descriptor, READ)

    # ---- requests ---------------------------------------------------------------------------------------------------

    def reconcile(self, entries: Iterable[Entry], deadline_s: float) -> None:
        """Bring the host's open rows and those of the store, `entries`, together; waits for that until `deadline_s`
        (CLOCK_BOOTTIME). Raises LedgerError."""
        entries = list(entries)
        holding(self._held, entries)
        keys = [entry.key for entry in entries]
        found = {key: row for key, rows in self._host.look_up(keys).items() for row in rows if row.key == key}
        todo = reconciled(entries, found, self._host.open_rows(), self._is_tracked)
        self._tell_again(todo.rows, todo.releases, deadline_s)
        self._tell_again(todo.after, [], deadline_s)

    def submit(self, rows: Mapping[bytes, Row], counters: Mapping[str, int]) -> None:
        self._usable()
        self._plan = planned(rows, self._held, self._is_tracked, self._open_here)
        if self._plan.now or not self._plan.later:
            self._host.submit(self._plan.now, counters)
            counters = {}
            # fail-point: consumer.fleet-outcomes-written: outcomes are on the host, the store does not know
        self._counters = counters
        self._begin()
        self._go_on()
        # fail-point: consumer.fleet-asked: the call is on its way to the store, its answer is not known

    def results(self) -> Result | None:
        self._usable()
        self._go_on()
        return self._result if self._step is _Step.NOTHING else None

    def fileno(self) -> int | None:
        return self._descriptors.fileno()

    def attend(self) -> None:
        self._usable()
        self._go_on()

    @property
    def begins_until_s(self) -> float:
        return self._store.holds_until_s - self._store.lease_s / 2

    @property
    def holds_until_s(self) -> float:
        return self._store.holds_until_s

    @property
    def waits_for(self) -> str:
        if self._step in (_Step.ANSWERED, _Step.HOST):
            return self._host.waits_for
        return f"the store of the fleet does not answer ({self._store.outage or 'it is slow'})"

    # ---- the host's part --------------------------------------------------------------------------------------------

    @property
    def files(self) -> tuple[Path, ...]:
        return self._host.files

    @property
    def epoch(self) -> int:
        return self._host.epoch

    @property
    def now_s(self) -> float:
        return self._host.now_s

    @property
    def mark(self) -> Mark:
        return self._host.mark

    @property
    def doubtful(self) -> bool:
        return self._host.doubtful

    def doubt(self, until_s: float) -> None:
        self._host.doubt(until_s)

    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
        return self._host.look_up(keys)

    def open_rows(self) -> Iterable[Row]:
        return self._host.open_rows()

    def settled_before(self, place: int | None, since_s: float) -> tuple[list[Row], int | None]:
        return self._host.settled_before(place, since_s)

    def counters(self) -> dict[str, int]:
        return self._host.counters()

    def evict(self, older_than_s: float, keep_max: int) -> tuple[int, int]:
        """As every ledger, for this host. The store forgets by itself what no pool keeps any longer."""
        if boottime_s() >= self._maintained_s + MAINTAIN_S:
            self._maintained_s = boottime_s()
            self._store.maintain(self.now_s - older_than_s)
        return self._host.evict(older_than_s, keep_max)

    def size(self) -> tuple[int, int]:
        return self._host.size()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if not self._failed and not self._closed and self._step is _Step.NOTHING:
            self._store.leave()
        self._part()
        self._host.close()

    def detach(self) -> None:
        self._part()
        self._host.detach()

    def write_again(self) -> None:
        self._host.write_again()

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Ask the store about the turn that is planned."""
        self._result, self._step = GRANTED, _Step.HOST
        if self._plan.claims or self._plan.settles:
            self._step = _Step.STORE
            self._store.submit(self._plan.claims, self._plan.settles)

    def _go_on(self) -> None:
        """Do what can be done now. Raises LedgerError, and then at each later call."""
        try:
            refusals = self._store.go_on()
            if self._step is not _Step.NOTHING:
                self._follow(refusals)
        except LedgerError:
            self._failed = True
            raise
        self._descriptors.wake_at(self._store.due_s)

    def _follow(self, refusals: Mapping[bytes, Refusal] | None) -> None:
        written = self._host.results() is not None  # asked each time: it quietens the host's descriptor
        if refusals is not None:
            self._take(refusals)
            self._step = _Step.ANSWERED
        if self._step is _Step.STORE or not written:
            return
        if self._step is _Step.ANSWERED and (self._plan.later or self._counters):
            # fail-point: consumer.fleet-granted: the store has granted claims, the host's ledger does not know
            self._host.submit(self._plan.later, self._counters)
            # fail-point: consumer.fleet-claims-written: granted claims are on the host, none was sent
            self._counters = {}
            self._step, written = _Step.HOST, self._host.results() is not None
        if written:
            self._step = _Step.NOTHING

    def _take(self, refusals: Mapping[bytes, Refusal]) -> None:
        """The store has answered: what it granted is ours."""
        plan = self._plan
        holding(self._held, (entry for entry in (*plan.claims, *plan.settles) if entry.key not in refusals))
        refused: dict[bytes, Rival] = {}
        for key, refusal in refusals.items():
            self._held.pop(key, None)
            other = refused[key] = rival(refusal, self.now_s)
            row = plan.now.get(key)
            # The worker of a dispatched row may live; its outcome will be refused in turn.
            stays = row is None or (row.state is RowState.DISPATCHED and row.epoch == self.epoch)
            plan.refuse(key, None if row is None or stays else corrected(row, other.row))
        self._result = Result(refused) if refused else GRANTED

    def _tell_again(self, rows: dict[bytes, Row], releases: Sequence[Entry], deadline_s: float) -> None:
        """Tell the store `rows`, which the host's ledger has, and wait for the end of that."""
        if not rows and not releases:
            return
        plan = planned(rows, self._held, self._is_tracked, self._open_here)
        self._plan = Plan(rows, {}, plan.claims, [*plan.settles, *releases])
        self._begin()
        while self.results() is None:
            left_s = deadline_s - boottime_s()
            if left_s <= 0:
                raise LedgerError(
                    f"the store of the fleet does not answer in time: {self._store.outage or 'it is slow'}"
                )
            readable(self._descriptors.fileno(), left_s)

    def _open_here(self, key: bytes) -> Row | None:
        rows = self._host.look_up([key])[key]
        return next((row for row in rows if row.key == key and row.state.open), None)

    def _usable(self) -> None:
        if self._failed:
            raise LedgerError("the ledger of the fleet has failed before: it has to be opened again")

    def _part(self) -> None:
        """Give up the store, once."""
        if not self._closed:
            self._closed = True
            self._store.close()
            self._descriptors.close()
