"""A small world around the settlement, for model checks: an abstract ledger, slots, workers and broker.

Every method is one indivisible thing that can happen. The consumer's part of an event is one turn: the settlement
hears of it, what waits is dispatched, the rows are committed, the effects follow one by one; `crash_after` ends the
consumer between any two of these. With a slow disk the effects wait for `disk_done`, and what is decided meanwhile for
the next commit. I1 to I5 are checked at the moment each could be broken (`settlement_checks.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from supervisor.brokers.base import Outgoing
from supervisor.config.schema import PoolConfig
from supervisor.consumer.settlement.messages import Failure
from supervisor.consumer.settlement.missing import TAKEN
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.settlement.unit_of_work import Ack, Effect, PublishLater, RecallAll, Requeue, Send
from supervisor.ledger.base import Row, RowState
from supervisor.link.frames import Incarnation, Published, Run, RunId
from supervisor.messages.message import Publication
from supervisor.scoreboard.words import OutcomeKind
from tests.support import settlement_inbox as inbox
from tests.support.settlement_broker import BrokerModel
from tests.support.settlement_checks import check_kept, check_published, check_start
from tests.support.settlement_inbox import InboxModel
from tests.support.settlement_ledger import LedgerModel
from tests.support.settlement_parts import (
    DEATH,
    EXPIRES_S,
    FAILED,
    FAILURES,
    LOST,
    QUEUE,
    Broken,
    Copy,
    Flight,
    Laws,
    SlotModel,
    audit,
    former_runs,
    shallow,
)
from tests.support.settlement_states import clone_settlement


class World(BrokerModel):
    """Everything around one queue, in one state."""

    def __init__(self, laws: Laws) -> None:
        super().__init__(laws)
        self.laws = laws
        self.pool = PoolConfig("p", QUEUE, "h:h", max_attempts=laws.max_attempts, on_crash=laws.on_crash)
        self.late = False  # what expires is of no use any more
        self.expiring: frozenset[RunId] = frozenset()  # runs that workers must not begin then
        self.settlement = self._settlement()
        self.ledger = LedgerModel()
        self.inbox = InboxModel(laws)
        self.committing: list[int] | None = None  # a turn under way: how far its rows go in each ring
        self.submitted: dict[bytes, Row] = {}  # its rows
        self.synced = False  # the disk is done with it, the consumer has not looked
        self.recalls = 0  # decided, on their way to the workers
        self.timers: list[int] = []
        self.paused = False
        self.faults = laws.faults
        self.heard = 0  # events of the present turn
        self.slots = [SlotModel() for _ in range(laws.workers)]
        self.started: frozenset[RunId] = frozenset(former_runs(laws))
        self.warned: frozenset[RunId] = frozenset()  # sent with `maybe_duplicate`
        self.cut_off: frozenset[RunId] = self.started  # whose worker died in them
        self.unproven: frozenset[RunId] = frozenset()  # that had a worker when the power failed
        self.remembers = True  # which messages began: only a consumer without ids to go by forgets it, as it dies
        self.done: frozenset[bytes] = frozenset()  # keys whose outcome `done` was marked
        self.done_rows: frozenset[bytes] = frozenset()
        self.done_elsewhere: frozenset[bytes] = frozenset()  # keys of what a neighbour has done
        self.run_elsewhere: frozenset[RunId] = frozenset()  # what has failed there
        self.rival: Copy | None = None  # what another daemon has, which shares queue and ledger
        self.rival_linked = True  # its delivery of that is unsettled

    def clone(self) -> World:
        """Another world in the same state; they share only what never changes."""
        other = shallow(self)
        other.settlement = clone_settlement(self.settlement)
        inside = vars(other)
        for name in ("ready", "dropped", "delayed", "dead", "parked", "unacked", "flights", "timers"):
            inside[name] = inside[name].copy()
        other.slots = [slot.clone() for slot in self.slots]
        other.ledger, other.inbox = self.ledger.clone(), self.inbox.clone()
        return other

    def _settlement(self) -> Settlement:
        settlement = Settlement(self.pool, "host")
        settlement.expiries.look(float(self.late), EXPIRES_S - 0.5 + self.late)
        return settlement

    def grow_late(self, _what: int) -> bool:
        """A second goes by."""
        self.late = True
        self.settlement.expiries.look(1.0, EXPIRES_S + 0.5)
        return False

    def turn(self, crash_after: int | None = None) -> int:
        """Dispatch, commit, carry out; returns how many steps. The consumer dies after `crash_after` of them."""
        self.heard = 0
        done = 0
        for step in self._turn_under_way() if self.committing else self._next_turn():
            if done == crash_after:
                break
            step()
            done += 1
        if crash_after is not None:
            self.faults -= 1
            self._die_and_restart(0)
        elif self.synced:
            self.synced = False
            self.turn()
        return done

    def _turn_under_way(self) -> Iterator[Callable[[], None]]:
        if self.synced:
            yield self._durable
            yield from self._effects()
        else:
            self._dispatch()

    def _next_turn(self) -> Iterator[Callable[[], None]]:
        self._dispatch()
        yield from self.steps()

    def steps(self) -> Iterator[Callable[[], None]]:
        """The commit of a turn, then its effects, unless they wait for the disk."""
        rows = self.settlement.decisions.take().rows
        if rows or self.settlement.decisions._committing:
            yield partial(self._commit, rows, [slot.taken for slot in self.slots])
            if not self.committing:
                yield from self._effects()

    def _effects(self) -> Iterator[Callable[[], None]]:
        """Not before the commit is durable: what it refuses withdraws some."""
        for effect in self.settlement.decisions.take_effects():
            yield partial(_CARRY_OUT[type(effect)], self, effect)

    def disk_done(self, _what: int) -> bool:
        self.synced = True
        return True

    @property
    def has_inbox(self) -> bool:
        return self.laws.on_crash == "inbox"

    def _published_by(self, run: RunId) -> Publication:
        return inbox.publication(run) if self.has_inbox else audit(run)

    def take_copy(self, outgoing: Outgoing) -> None:
        if self.has_inbox and outgoing.routing_key == f"{QUEUE}.dead":
            inbox.check_letter(self, outgoing)
        super().take_copy(outgoing)

    # ---- the turn -------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        self.settlement.assignments.fill(self._places(), self.settlement.expires)

    def _places(self) -> Iterator[Incarnation]:
        load = self.settlement.assignments.load
        workers = [Incarnation(number, slot.generation) for number, slot in enumerate(self.slots) if slot.linked]
        while workers and load(worker := min(workers, key=load)) < self.laws.room:
            yield worker

    def _commit(self, rows: dict[bytes, Row], taken: list[int]) -> None:
        self.ledger.submit(rows, {})
        self.submitted = rows
        self.committing = taken
        if not rows or not self.laws.slow_disk:
            self._durable()

    def _durable(self) -> None:
        assert self.committing is not None
        results = self.ledger.results()
        for key, rival in results.refused.items() if results else ():
            self.settlement.refused(self.submitted[key], rival)
            self.heard += 1  # what follows from it is decided, and goes with the next turn
        self.done_rows |= {key for key, row in self.ledger.rows.items() if row.state is RowState.DONE}
        for slot, tail in zip(self.slots, self.committing, strict=True):
            slot.tail = max(slot.tail, tail)
        self.committing = None

    def _ack(self, effect: Ack) -> None:
        check_kept(self, self.settled(effect.epoch, effect.tag).body)

    def _requeue(self, effect: Requeue) -> None:
        self.have_back(self.settled(effect.epoch, effect.tag))

    def _send(self, effect: Send) -> None:
        slot = self.slots[effect.worker.slot]
        if not slot.linked or slot.generation != effect.worker.generation:
            return
        if isinstance(effect.frame, Run):
            if self.paused and not self.recalls:
                raise Broken("a run follows the Recall that was to bring it back")
            slot.held += (effect.frame.run,)
            if self.has_inbox:
                inbox.sent(self, effect.frame)
            self.expiring |= {effect.frame.run} if effect.frame.due_s else set()
            self.warned |= {effect.frame.run} if effect.frame.maybe_duplicate else set()
        elif isinstance(effect.frame, Published) and slot.publishing and slot.running == effect.frame.run:
            if effect.frame.ok and self._published_by(slot.running).body not in self.audited:
                raise Broken("a run is done before the broker has what it published")
            self.mark(slot, OutcomeKind.DONE if effect.frame.ok else OutcomeKind.PUBLISH_FAILED)

    def _recall(self, _effect: RecallAll) -> None:
        self.recalls -= 1
        for slot in self.slots:
            if slot.linked:
                slot.returning, slot.held = slot.returning + slot.held, ()

    def _publish_out(self, effect: Outgoing) -> None:
        if any(flight.outgoing.token == effect.token for flight in self.flights):
            raise Broken("a publication is published again before the broker has said anything about it")
        check_published(self, effect)
        self.flights.append(Flight(effect))

    def _publish_later(self, effect: PublishLater) -> None:
        self.timers.append(effect.token)

    # ---- workers --------------------------------------------------------------------------------------------------

    def hello(self, number: int) -> bool:
        slot = self.slots[number]
        slot.linked = True
        self._hand_in(number)
        worker = Incarnation(number, slot.generation)
        held = [slot.running] if slot.running else []
        self.settlement.greeted(worker, [*held, *slot.held])
        if slot.running:
            self.settlement.publications.publish_for(worker, slot.running, [self._published_by(slot.running)])
        return True

    def start(self, number: int) -> bool:
        slot = self.slots[number]
        run, slot.held = slot.held[0], slot.held[1:]
        if self.late and run in self.expiring:
            slot.returning += (run,) if slot.linked else ()
            return False
        slot.running = run
        check_start(self, run, slot)
        self.started |= {run}
        return False

    def finish(self, number: int) -> bool:
        slot = self.slots[number]
        if not self.laws.publishes:
            self.mark(slot, OutcomeKind.DONE)
            return False
        slot.publishing = True
        if slot.linked and slot.running:
            self.settlement.publications.publish_for(
                Incarnation(number, slot.generation), slot.running, [self._published_by(slot.running)]
            )
        return slot.linked

    def fail(self, number: int) -> bool:
        self.mark(self.slots[number], OutcomeKind.FAILED)
        return False

    def hear(self, number: int) -> bool:
        self._hand_in(number)
        return True

    def return_(self, number: int) -> bool:
        slot = self.slots[number]
        runs, slot.held, slot.returning = slot.returning + slot.held, (), ()
        self.settlement.returned(Incarnation(number, slot.generation), runs)
        return True

    def return_recalled(self, number: int) -> bool:
        slot = self.slots[number]
        runs, slot.returning = slot.returning, ()
        self.settlement.returned(Incarnation(number, slot.generation), runs)
        return True

    def unlink(self, number: int) -> bool:
        self.slots[number].unlink()
        return False

    def worker_death(self, number: int) -> bool:
        slot = self.slots[number]
        self._cut_off(slot)
        slot.die()
        slot.exit_notices += (slot.generation,)
        return False

    def respawn(self, number: int) -> bool:
        self.slots[number].respawn()
        return False

    def exit_notice(self, number: int) -> bool:
        slot = self.slots[number]
        generation, slot.exit_notices = slot.exit_notices[0], slot.exit_notices[1:]
        self._reap(number, generation, DEATH)
        return True

    def _reap(self, number: int, generation: int, failure: Failure, proof: bool = True) -> None:
        slot = self.slots[number]
        running = slot.running if slot.generation == generation else None
        self._hand_in(number)
        failure = inbox.failure_with(self, running, failure)
        self.settlement.died(Incarnation(number, generation), running, failure, proof)

    def _hand_in(self, number: int) -> None:
        slot = self.slots[number]
        for run, kind, generation in slot.ring[slot.taken :]:
            failure = inbox.failure_with(self, run, FAILURES.get(kind, FAILED))
            self.settlement.outcome(Incarnation(number, generation), run, kind, failure)
        slot.taken = len(slot.ring)

    def _cut_off(self, slot: SlotModel) -> None:
        if slot.running:
            self.cut_off |= {slot.running}
            inbox.ended(self, slot, OutcomeKind.IN_DOUBT)

    def mark(self, slot: SlotModel, kind: OutcomeKind) -> None:
        inbox.ended(self, slot, kind)
        run = slot.mark(kind)
        if kind is OutcomeKind.DONE:
            self.done |= {run.key}

    # ---- the broker -----------------------------------------------------------------------------------------------

    def settle(self, _what: int) -> bool:
        self.turn()
        return False

    def deliver(self, index: int) -> bool:
        found = self.hand_over(index)
        self.settlement.delivered(self.arrival(found), [row for row in self.ledger.rows.values() if row.id == found.id])
        return True

    def claim_again(self, _what: int) -> bool:
        self.settlement.claim_again()
        return True

    def confirm(self, index: int) -> bool:
        flight = self.flights.pop(index)
        entry = self.settlement.publications.confirmed(flight.outgoing.token)
        if entry is not None:
            self.settlement.copy_confirmed(entry)
        return True

    def refuse(self, index: int) -> bool:
        self.settlement.unpublished(self.flights.pop(index).outgoing.token, "no queue", lost=False)
        return True

    def lose(self, index: int) -> bool:
        self.settlement.unpublished(self.flights.pop(index).outgoing.token, "gone", lost=True)
        return True

    def time(self, index: int) -> bool:
        self.settlement.publications.publish_again(self.timers.pop(index))
        return True

    def give_up_missing(self, index: int) -> bool:
        self.settlement.give_up_missing(list(self.settlement.entries.values())[index], TAKEN)
        return True

    def disconnect(self, _what: int) -> bool:
        self.end_epoch()
        self.recalls += 1
        self.settlement.disconnected()
        return True

    # ---- the operator ---------------------------------------------------------------------------------------------

    def pause(self, _what: int) -> bool:
        self.paused = True
        self.recalls += 1
        self.settlement.drain()
        return True

    def resume(self, _what: int) -> bool:
        self.paused = False
        self.settlement.accepting = True
        return False

    def consumer_death(self, what: int) -> bool:
        self._die_and_restart(what)
        return False

    def power_loss(self, what: int) -> bool:
        """Everything but the broker dies. What was not synced is gone, and with `what` all marks in slots since."""
        self.ledger.lose_power()
        self.unproven |= {
            RunId(key, row.round, row.attempt)
            for key, row in self.ledger.rows.items()
            if row.state is RowState.DISPATCHED
        }
        self.done = self.done & self.done_rows if what else self.done
        for slot in self.slots:
            self._cut_off(slot)
            slot.lose_power(what == 0)
        self._die_and_restart(0, proof=False)
        return False

    def _die_and_restart(self, burials: int, proof: bool = True) -> None:
        """The next consumer starts. With `burials` the master has finished them before: no exit notices follow.

        It has back what the queue dropped meanwhile: that only a dead consumer knew it cannot be mended.
        """
        self.end_epoch(drops=False)
        self.ready, self.dropped = self.ready + self.dropped, []
        self.flights.clear()
        self.timers.clear()
        self.heard = self.recalls = 0
        self.paused = self.synced = False
        self.remembers = self.laws.ids
        self.committing = None
        self.settlement = self._settlement()
        for row in [row for row in self.ledger.rows.values() if row.state.open]:
            self.settlement.restore_row(row)
        for number, slot in enumerate(self.slots):
            slot.unlink()
            slot.taken = slot.tail
            self._hand_in(number)
            if burials:
                slot.exit_notices = ()
        for worker in self.settlement.assignments.workers() - self._believed_alive():
            self._reap(worker.slot, worker.generation, LOST, proof)
        for step in self.steps():
            step()

    def _believed_alive(self) -> set[Incarnation]:
        return {
            Incarnation(number, generation)
            for number, slot in enumerate(self.slots)
            for generation in (*slot.exit_notices, *([slot.generation] if slot.alive else []))
        }


_CARRY_OUT: dict[type[Effect], Callable[[World, Any], None]] = {
    Ack: World._ack,
    Requeue: World._requeue,
    Send: World._send,
    RecallAll: World._recall,
    Outgoing: World._publish_out,
    PublishLater: World._publish_later,
}
