"""The settlement: what every delivery, outcome, confirm and death means for a message. Pure: events in, actions out.

Runs in the consumer process, which feeds it, commits the rows of a turn and only then carries out its effects. It does
no I/O and reads no clock, so that it can be model-checked. Two rules carry the rest: nothing is acked before the row
that says why is durable; and an OWNED message is its worker's until that worker or the master's exit notice ends that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from supervisor.config.schema import PoolConfig
from supervisor.consumer.settlement import admission, copies, missing
from supervisor.consumer.settlement.admission import SENT_MEANWHILE, Meaning
from supervisor.consumer.settlement.assignments import Assignments
from supervisor.consumer.settlement.content_matches import ContentMatches
from supervisor.consumer.settlement.delivery_limit import is_surplus
from supervisor.consumer.settlement.expiries import Expiries
from supervisor.consumer.settlement.failure_policy import attempt_of, fate_of
from supervisor.consumer.settlement.messages import NONE_EARLIER, Arrival, Entry, Failure, Phase, failure_of, unfit
from supervisor.consumer.settlement.publications import Publications
from supervisor.consumer.settlement.rivals import Standing, decision_of, is_overruled, loss_of, standing_of
from supervisor.consumer.settlement.unit_of_work import UnitOfWork
from supervisor.ledger.base import Rival, Row, RowState
from supervisor.link.frames import Incarnation, RunId
from supervisor.messages.identity import is_given
from supervisor.scoreboard.words import OutcomeKind
from supervisor.system.clock import ahead_s


class Settlement:
    """All messages in flight of one pool. `dedupe`: as in the configuration; `epoch`: see `Ledger.epoch`."""

    def __init__(
        self, pool: PoolConfig, host: str, dedupe: str = "keep", publish_timeout_s: float = math.inf, epoch: int = 0
    ) -> None:
        self.ahead_s = 0.0  # the wall clock minus the ledger's time, for times that people read
        self.accepting = True
        self.doubtful = False  # the ledger may have forgotten what was done
        self.entries: dict[bytes, Entry] = {}
        self.content_matches = ContentMatches()
        self.saved: set[RunId] = set()  # of which a saving copy waits in its queue, as far as this connection knows
        self.pool = pool
        self._dedupe = dedupe
        self.decisions = UnitOfWork(epoch)
        self.assignments = Assignments(self.decisions, pool.queue)
        self.expiries = Expiries(self.decisions)
        self.publications = Publications(self.decisions, self.assignments, pool.queue, host, publish_timeout_s)

    def begin_turn(self, now_s: float, wall_s: float, passed_s: float) -> None:
        """Set the time: `now_s` of the ledger, `wall_s` of the machine's clock, `passed_s` of CLOCK_BOOTTIME."""
        self.decisions.now_s = now_s
        self.expiries.look(passed_s, wall_s)
        self.ahead_s = ahead_s(wall_s, now_s, self.ahead_s)

    def configure(self, pool: PoolConfig) -> None:
        """Go on with other settings of the pool, in the same queue."""
        self.pool = pool

    # ---- deliveries -----------------------------------------------------------------------------------------------

    def delivered(self, arrival: Arrival, known: Sequence[Row]) -> None:
        """A message came from the queue; `known` are the ledger's rows with the same id."""
        if self.saved and is_surplus(arrival, self.saved):
            self._duplicate(arrival, "a copy of it waits in its queue")
        elif not self.accepting and not arrival.worn:
            self._requeue(arrival)
        elif not arrival.has_id and (key := self.content_matches.match(arrival, self.decisions.now_s)) is not None:
            self._admit_match(arrival, key)
        elif not arrival.has_id and (earlier := self.assignments.perhaps(arrival)) is not None:
            earlier.later.append(arrival)
        elif (entry := self.entries.get(arrival.key)) is not None:
            self._admit_beside(entry, arrival)
        else:
            self._admit_by_ledger(arrival, known)

    def _requeue(self, arrival: Arrival) -> None:
        self.decisions.count("returned")
        self.decisions.requeue([arrival.tag])

    def _admit_match(self, arrival: Arrival, key: bytes) -> None:
        if key in self.entries:
            self._attach(self.entries[key], arrival)
        else:
            self._duplicate(arrival, "its run had ended when the connection was lost")

    def _admit_beside(self, entry: Entry, arrival: Arrival) -> None:
        meaning, why = admission.meaning_beside(entry, arrival, self._dedupe)
        if meaning is Meaning.DUPLICATE:
            self._duplicate(arrival, why)
        elif meaning is Meaning.ATTACH:
            self._attach(entry, arrival)
        else:
            entry.later.append(arrival)
            self._go_on(entry, meaning)

    def _go_on(self, entry: Entry, meaning: Meaning) -> None:
        """What has come behind this run, with this `meaning`, may be proof that it need not be waited for."""
        if meaning is Meaning.COPY:
            self.copy_confirmed(entry)
        elif meaning is Meaning.OVERTAKEN:
            self.give_up_missing(entry, missing.OVERTAKEN)

    def _admit_by_ledger(self, arrival: Arrival, known: Sequence[Row]) -> None:
        row = self.decisions.row(arrival.key)
        if row is None and known:
            row = next((row for row in known if row.key == arrival.key), None)
        if row is not None:
            self._admit_by_row(row, arrival)
            return
        if known and not arrival.stamped:
            self.decisions.say_id_reused(arrival)
        self._enter(arrival)

    def _admit_by_row(self, row: Row, arrival: Arrival) -> None:
        meaning, why = admission.meaning_of(row, arrival, self._dedupe)
        if meaning is Meaning.DUPLICATE:
            self._duplicate(arrival, why)
            return
        entry = self._enter(arrival)
        if meaning is Meaning.ORDER:
            self.decisions.record(entry, RowState.RETURNED)
        elif meaning is Meaning.DECIDED:
            failure = failure_of(row)
            self._decide(entry, copies.PENDING[failure.pending], failure)
        elif meaning is Meaning.IN_DOUBT:
            self._failed(entry, OutcomeKind.IN_DOUBT, Failure("lost", why))

    def _enter(self, arrival: Arrival) -> Entry:
        entry = Entry.of(arrival)
        entry.has_id, entry.likeness = arrival.has_id, arrival.likeness
        entry.maybe_duplicate = self.doubtful or arrival.may_repeat
        self.entries[entry.key] = entry
        self.assignments.wait(entry)
        self._attach(entry, arrival)
        if (failure := unfit(arrival, self.pool.missing_id)) is not None:
            self._decide(entry, RowState.DEAD_PENDING, failure)
        elif not (self.accepting and self.expires(entry)) and entry.worn:
            self._save(entry)
        return entry

    def _attach(self, entry: Entry, arrival: Arrival) -> None:
        entry.tags.append(arrival.tag)
        if entry.token is not None:
            self.publications.came_again(entry)
        if arrival.worn:
            entry.worn, entry.likeness = True, b""  # dropped by its queue, it would be taken for another one like it
        if self.pool.max_wait_s or arrival.expires is not None or entry.expiry is not None:
            entry.expiry = self.expiries.of(entry, arrival, self.pool.max_wait_s)
        if entry.delivery is None:
            entry.delivery = arrival.delivery
            if entry.earlier == NONE_EARLIER:  # its row may be of a former version
                entry.earlier = arrival.earlier
        if entry.phase is Phase.COPYING and entry.token is None:
            self.publications.publish_copy(entry)

    def _duplicate(self, arrival: Arrival, why: str) -> None:
        self.decisions.ack([arrival.tag], b"" if arrival.worn else arrival.likeness)
        self.decisions.say_duplicate(arrival, why)

    # ---- workers --------------------------------------------------------------------------------------------------

    def expires(self, entry: Entry) -> bool:
        """Whether the time of this waiting message is over: then it is a dead letter."""
        if entry.expiry is None or not self.expiries.is_over(entry.expiry):
            return False
        self.decisions.count("expired")
        self._decide(entry, RowState.DEAD_PENDING, self.expiries.failure(entry.expiry))
        return True

    def greeted(self, worker: Incarnation, held: Iterable[RunId]) -> None:
        """A worker said hello; the outcomes in its ring were handed in before. What is not held never reached it."""
        self.decisions.unsend(worker)
        holding = set(held)
        for entry in self.assignments.of(worker):
            if entry.run not in holding:
                self._unbegun(entry)

    def returned(self, worker: Incarnation, runs: Iterable[RunId]) -> None:
        """A worker gave these back unstarted."""
        for run in runs:
            entry = self.assignments.find(worker, run)
            if entry is not None and entry.phase is Phase.OWNED:
                self._unbegun(entry)

    def outcome(self, worker: Incarnation, run: RunId, kind: OutcomeKind, failure: Failure) -> None:
        """A run ended, as marked in its slot. Heard twice, or of a run that is not this worker's: no effect."""
        entry = self.assignments.find(worker, run)
        if entry is None:
            return
        if kind is OutcomeKind.DONE:
            self.decisions.record(entry, RowState.DONE)
            self.decisions.count("done")
            self._settle(entry)
        else:
            self.publications.cancel_handlers(entry)
            self._failed(entry, kind, failure)

    def died(self, worker: Incarnation, running: RunId | None, failure: Failure, proof: bool = True) -> None:
        """The master declares a worker dead. `running`: the run marked in its slot; its ring has been handed in before.

        Without `proof` (another boot, a damaged slot file) the absence of a mark says nothing: all it had is in doubt.
        """
        for entry in self.assignments.of(worker):
            self.publications.cancel_handlers(entry)
            if entry.run == running or not proof:
                its_own = failure if entry.run == running else msgspec.structs.replace(failure, database=b"")
                self._failed(entry, OutcomeKind.IN_DOUBT, its_own)
            else:
                self._unbegun(entry)

    # ---- the ledger -----------------------------------------------------------------------------------------------

    def refused(self, row: Row, rival: Rival) -> None:
        """The last commit has written nothing of this row: `rival` was in the way. Nothing leaves for it."""
        entry = self.entries.get(row.key)
        self.decisions.revoke(row.key, entry.token if entry is not None else None)
        if is_overruled(row):
            self.decisions.say_overruled(row, rival)
        if entry is None:
            return
        self.assignments.take_away(entry)
        self.publications.cancel(entry)
        standing, why = standing_of(entry, rival)
        if standing is Standing.DUPLICATE:
            self.decisions.ack(entry.tags, entry.likeness)
            self.decisions.say_duplicate(entry, why, len(entry.tags))
            self._forget(entry)
        elif standing is Standing.DECIDED:
            self._decide(entry, *decision_of(rival.row))
        elif standing is Standing.IN_DOUBT:
            self._failed(entry, OutcomeKind.IN_DOUBT, loss_of(rival))
        elif entry.tags and self.accepting:
            self.assignments.hold(entry, rival)
        else:
            self._give_up(entry)

    def claim_again(self) -> None:
        """Claim the messages that other daemons had in hand once more."""
        for entry in self.assignments.take_held():
            if entry.pending is not None and entry.failure is not None:
                self._decide(entry, entry.pending, entry.failure)
            else:
                self.assignments.wait(entry)

    # ---- the broker -----------------------------------------------------------------------------------------------

    def copy_confirmed(self, entry: Entry) -> None:
        """The broker has the copy of this message."""
        if entry.phase is Phase.SAVING:
            self._saved(entry)
        else:
            self._copied(entry)

    def unpublished(self, token: int, reason: str, lost: bool, for_good: bool = False) -> None:
        """The broker does not have a publication (`token`, `lost`, `for_good`: as in `brokers.base.Unpublished`)."""
        if not lost and self.accepting and (entry := self.publications.stop_saving(token)) is not None:
            self.assignments.wait(entry)  # it cannot be saved: it is run while it is here
        else:
            self.publications.unpublished(token, reason, lost, for_good)

    def disconnected(self) -> None:
        """The epoch is over: tags are void. Publications get their fates all the same (`brokers.base`)."""
        self.saved.clear()
        self.publications.restart_time()
        self.decisions.recall()
        self.content_matches.expire(self.decisions.now_s)
        for likeness in self.decisions.void_tags():
            self.content_matches.expect(likeness, b"", self.decisions.now_s)
        worn = [arrival for entry in self.entries.values() for arrival in entry.later if arrival.worn]
        for entry in list(self.entries.values()):
            self.decisions.count("dropped", len(entry.tags) + len(entry.later))
            if entry.tags and entry.likeness:
                self.content_matches.expect(entry.likeness, entry.key, self.decisions.now_s)
            entry.tags.clear()
            entry.later.clear()
            entry.missing_since_s = None
            if entry.phase.is_unassigned:
                self._give_up(entry)
        for arrival in (arrival for arrival in worn if arrival.key not in self.entries):
            self._enter(arrival).tags.clear()

    def queue_is_empty(self) -> None:
        """Nothing is ready in the queue, and we are subscribed: messages not back are missing."""
        for entry in missing.given_up(self.entries.values(), self.decisions.now_s):
            self.give_up_missing(entry, missing.TAKEN)

    def give_up_missing(self, entry: Entry, why: str, note: missing.Note[Entry] = missing.give_up) -> None:
        """Stop waiting for a failed message that is missing; `note` that (`missing.give_up`, `missing.hand_over`)."""
        note(self.decisions, entry, why)
        self._forget(entry)

    def is_last(self, row: Row) -> bool:
        """Whether nothing has happened to the message since this `row`, its last one in the ledger."""
        return row.key not in self.entries and self.decisions.row(row.key) is None

    # ---- the operator ---------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Accept nothing more, return what no worker has begun, until `resume`."""
        self.accepting = False
        self.decisions.recall()
        for entry in list(self.entries.values()):
            for arrival in [arrival for arrival in entry.later if not arrival.worn]:
                entry.later.remove(arrival)
                self._requeue(arrival)
            if entry.phase.is_unassigned:
                self._give_up(entry)

    def resume(self) -> None:
        """Accept messages again."""
        self.accepting = True

    # ---- recovery -------------------------------------------------------------------------------------------------

    def restore_row(self, row: Row) -> None:
        """Take an open row of the ledger into memory, at start; a hello, exit notice or delivery decides its fate."""
        entry = Entry.of(row)
        entry.has_id = (row.round, row.attempt) != (1, 1) or not is_given(row.id)
        self.entries[entry.key] = entry
        if row.state is RowState.DISPATCHED:
            self.assignments.give(entry, Incarnation(row.slot, row.generation))
            entry.earlier = (failure_of(row).earlier if row.note else None) or NONE_EARLIER
        elif not entry.has_id:
            self._unbegun(entry)  # no body and no id since a restart: it comes back as another message
        else:
            entry.phase, entry.pending = Phase.COPYING, row.state
            entry.failure = failure_of(row)

    # ---- decisions ------------------------------------------------------------------------------------------------

    def _failed(self, entry: Entry, kind: OutcomeKind, failure: Failure) -> None:
        self.decisions.say_failed(entry, failure, attempt_of(kind, entry.attempt, self.pool, entry.earlier))
        self._decide(entry, *fate_of(kind, entry.attempt, self.pool, failure, entry.earlier))

    def _decide(self, entry: Entry, pending: RowState, failure: Failure) -> None:
        """Record the outcome; the copy follows the commit, the ack follows the copy's confirm."""
        if entry.delivery is None and not entry.has_id:
            self._unbegun(entry)  # as in `restore_row`
            return
        self.assignments.take_away(entry)
        entry.phase, entry.pending = Phase.COPYING, pending
        entry.failure = msgspec.structs.replace(failure, at_s=failure.at_s or self.decisions.now_s + self.ahead_s)
        self.decisions.record(entry, pending, entry.failure)
        if entry.delivery is not None:
            self.publications.publish_copy(entry)
        else:
            self._go_on(entry, admission.meaning_behind(entry, self._dedupe))

    def _copied(self, entry: Entry) -> None:
        """The broker has the copy: final, and the original may go."""
        self.decisions.record_copied(entry)
        self._settle(entry)

    def _unbegun(self, entry: Entry) -> None:
        """No worker began it: count no attempt; queue it again here, or requeue it at the broker."""
        self.assignments.take_away(entry)
        self.decisions.record(entry, RowState.RETURNED)
        if entry.tags and self.accepting:
            self.assignments.wait(entry)
        else:
            self._give_up(entry)

    def _save(self, entry: Entry) -> None:
        """Publish it once more and keep it until the broker has that: its queue may drop it when it comes back."""
        self.assignments.take_away(entry)
        entry.phase = Phase.SAVING
        self.publications.publish_saved(entry)

    def _saved(self, entry: Entry) -> None:
        """The broker has the copy: this one may go, and the copy is run when it comes."""
        self.saved.add(entry.run)
        self.decisions.say_saved(entry)
        self._settle(entry)

    def _give_up(self, entry: Entry) -> None:
        if entry.worn and entry.delivery is not None:
            self._save(entry)
            return
        self.decisions.count("returned", len(entry.tags))
        self.decisions.requeue(entry.tags)
        self.content_matches.forget(entry.key, entry.likeness)
        self._forget(entry)

    def _settle(self, entry: Entry) -> None:
        self.decisions.ack(entry.tags, entry.likeness)
        if len(entry.tags) > 1:  # of one epoch: the queue had the message more than once
            self.decisions.say_duplicate(entry, SENT_MEANWHILE, len(entry.tags) - 1)
        self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        del self.entries[entry.key]
        self.assignments.take_away(entry)
        self.publications.cancel(entry)
        for arrival in entry.later:
            self.delivered(arrival, [])
