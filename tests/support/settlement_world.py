"""A small world around the settlement, for model checks: an abstract broker, ledger, slots and workers.

Every method is one indivisible thing that can happen. The consumer's part of an event is one turn: the settlement
hears of it, what waits is dispatched, the rows are committed, the effects follow one by one; `crash_after` ends the
consumer between any two of these. The world checks I1 to I5 at the moment each could be broken, and raises `Broken`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

from supervisor.brokers.base import Outgoing
from supervisor.config.schema import PoolConfig
from supervisor.consumer import copies
from supervisor.consumer.actions import Ack, Effect, GiveBack, PublishLater, PublishOut, Send
from supervisor.consumer.entries import Arrival, Failure
from supervisor.consumer.settlement import Settlement
from supervisor.ledger.base import Row, RowState
from supervisor.link.frames import Incarnation, Published, Run, RunId
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settlement_parts import (
    AUDIT_QUEUE,
    DEATH,
    FAILED,
    LOST,
    QUEUE,
    Broken,
    Copy,
    Flight,
    Laws,
    SlotModel,
    audit,
)
from tests.support.settlement_states import clone_settlement, memories


class World:
    """Everything around one queue, in one state."""

    def __init__(self, laws: Laws) -> None:
        self.laws = laws
        self.pool = PoolConfig("p", QUEUE, "h:h", max_attempts=laws.max_attempts, on_crash=laws.on_crash)
        self.settlement = Settlement(self.pool, "host")
        self.rows: dict[bytes, Row] = {}
        self.ready = [Copy(body, f"id-{i}" if laws.ids else None) for i, body in enumerate(laws.bodies)]
        self.delayed: list[Copy] = []
        self.dead: list[Copy] = []
        self.parked: list[Copy] = []
        self.unacked: dict[int, Copy] = {}
        self.flights: list[Flight] = []
        self.timers: list[int] = []
        self.epoch = 1
        self.tag = 0
        self.given = 0
        self.paused = False
        self.faults = laws.faults
        self.heard = 0  # events of the present turn
        self.slots = [SlotModel() for _ in range(laws.workers)]
        self.started: frozenset[RunId] = frozenset()
        self.warned: frozenset[RunId] = frozenset()  # sent with `maybe_duplicate`
        self.cut_off: frozenset[RunId] = frozenset()  # whose worker died in them
        self.done: frozenset[bytes] = frozenset()  # keys whose outcome `done` was marked
        self.done_rows: frozenset[bytes] = frozenset()
        self.audited: frozenset[bytes] = frozenset()  # what handlers published and the broker has

    def clone(self) -> World:
        """Another world in the same state; they share only what never changes."""
        other = copy(self)
        other.settlement = clone_settlement(self.settlement)
        for name in ("rows", "ready", "delayed", "dead", "parked", "unacked", "flights", "timers"):
            setattr(other, name, getattr(self, name).copy())
        other.slots = [slot.clone() for slot in self.slots]
        return other

    def turn(self, crash_after: int | None = None) -> int:
        """Dispatch, commit, carry out; returns how many steps. The consumer dies after `crash_after` of them."""
        self.heard = 0
        self._dispatch()
        steps = self.steps()
        for step in steps[:crash_after]:
            step()
        if crash_after is not None:
            self.faults -= 1
            self._die_and_restart(0)
        return len(steps)

    def steps(self) -> list[Callable[[], None]]:
        """The commit of a turn, then its effects."""
        decided = self.settlement.take_turn()
        taken = [slot.taken for slot in self.slots]
        effects = [effect for effect in decided.effects if type(effect) in _CARRY_OUT]
        if not decided.rows and not effects:
            return []
        commit = partial(self._commit, decided.rows, taken)
        return [commit, *(partial(_CARRY_OUT[type(effect)], self, effect) for effect in effects)]

    # ---- the turn -------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        load = self.settlement.holdings.load
        workers = [Incarnation(number, slot.generation) for number, slot in enumerate(self.slots) if slot.linked]
        for entry in list(self.settlement.waiting.values()):
            worker = min(workers, key=load, default=None)
            if worker is not None and load(worker) < self.laws.room:
                self.settlement.assign(entry, worker)

    def _commit(self, rows: dict[bytes, Row], taken: list[int]) -> None:
        self.rows |= rows
        self.done_rows |= {key for key, row in rows.items() if row.state is RowState.DONE}
        if rows:
            for slot, tail in zip(self.slots, taken, strict=True):
                slot.tail = max(slot.tail, tail)

    def _ack(self, effect: Ack) -> None:
        if effect.epoch != self.epoch and self.laws.together == 1:
            raise Broken(f"a tag of epoch {effect.epoch} is acked in epoch {self.epoch}")
        if effect.epoch == self.epoch:
            self.check_kept(self._settled(effect.tag).body)

    def _give_back(self, effect: GiveBack) -> None:
        if effect.epoch == self.epoch:
            self.ready.append(self._settled(effect.tag)._replace(redelivered=True))

    def _settled(self, tag: int) -> Copy:
        if tag not in self.unacked:
            raise Broken(f"tag {tag} is settled twice, or was never delivered")
        return self.unacked.pop(tag)

    def _send(self, effect: Send) -> None:
        slot = self.slots[effect.worker.slot]
        if not slot.linked or slot.generation != effect.worker.generation:
            return
        if isinstance(effect.frame, Run):
            slot.held += (effect.frame.run,)
            self.warned |= {effect.frame.run} if effect.frame.maybe_duplicate else set()
        elif isinstance(effect.frame, Published) and slot.publishing and slot.running == effect.frame.run:
            if effect.frame.ok and audit(slot.running).body not in self.audited:
                raise Broken("a run is done before the broker has what it published")
            self._mark(slot, OutcomeKind.DONE if effect.frame.ok else OutcomeKind.PUBLISH_FAILED)

    def _publish_out(self, effect: PublishOut) -> None:
        self.flights.append(Flight(effect.outgoing))

    def _publish_later(self, effect: PublishLater) -> None:
        if effect.token in self.timers:
            raise Broken("the same publication waits twice for its time")
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
            self.settlement.publishing(worker, slot.running, [audit(slot.running)])
        return True

    def start(self, number: int) -> bool:
        slot = self.slots[number]
        run, slot.held = slot.held[0], slot.held[1:]
        slot.running = run
        self._check_start(run, slot)
        self.started |= {run}
        return False

    def finish(self, number: int) -> bool:
        slot = self.slots[number]
        if not self.laws.publishes:
            self._mark(slot, OutcomeKind.DONE)
            return False
        slot.publishing = True
        if slot.linked and slot.running:
            self.settlement.publishing(Incarnation(number, slot.generation), slot.running, [audit(slot.running)])
        return slot.linked

    def fail(self, number: int) -> bool:
        self._mark(self.slots[number], OutcomeKind.FAILED)
        return False

    def hear(self, number: int) -> bool:
        self._hand_in(number)
        return True

    def return_(self, number: int) -> bool:
        slot = self.slots[number]
        runs, slot.held = slot.held, ()
        self.settlement.returned(Incarnation(number, slot.generation), runs)
        return True

    def unlink(self, number: int) -> bool:
        self.slots[number].linked = False
        return False

    def worker_death(self, number: int) -> bool:
        slot = self.slots[number]
        self.cut_off |= {slot.running} if slot.running else set()
        slot.alive = slot.linked = slot.publishing = False
        slot.held = ()
        slot.verdicts += (slot.generation,)
        return False

    def respawn(self, number: int) -> bool:
        self.slots[number].respawn()
        return False

    def verdict(self, number: int) -> bool:
        slot = self.slots[number]
        generation, slot.verdicts = slot.verdicts[0], slot.verdicts[1:]
        self._bury(number, generation, DEATH)
        return True

    def _bury(self, number: int, generation: int, failure: Failure) -> None:
        slot = self.slots[number]
        running = slot.running if slot.generation == generation else None
        self._hand_in(number)
        self.settlement.died(Incarnation(number, generation), running, failure)

    def _hand_in(self, number: int) -> None:
        slot = self.slots[number]
        for run, kind, generation in slot.ring[slot.taken :]:
            failure = LOST if kind is OutcomeKind.IN_DOUBT else FAILED
            self.settlement.outcome(Incarnation(number, generation), run, kind, failure)
        slot.taken = len(slot.ring)

    def _mark(self, slot: SlotModel, kind: OutcomeKind) -> None:
        run = slot.mark(kind)
        if kind is OutcomeKind.DONE:
            self.done |= {run.key}

    # ---- the broker -----------------------------------------------------------------------------------------------

    def settle(self, _what: int) -> bool:
        self.turn()
        return False

    def deliver(self, index: int) -> bool:
        found = self.ready.pop(index)
        self.tag += 1
        self.unacked[self.tag] = found
        self.settlement.delivered(self._arrival(found), [row for row in self.rows.values() if row.id == found.id])
        return True

    def _arrival(self, found: Copy) -> Arrival:
        delivery = found.delivered(self.epoch, self.tag)
        stamp = copies.stamp(delivery, QUEUE)
        if found.id is None:
            self.given += 1
        id = found.id or f"preforkd-{self.given:032x}"
        twin = b"" if found.id else found.body
        key = id.encode() + found.body.rjust(8, b"/")  # a digest's length
        return Arrival(delivery, key, id, found.id is not None, *(stamp or (1, 1)), stamp is not None, twin)

    def come_due(self, index: int) -> bool:
        self.ready.append(self.delayed.pop(index)._replace(redelivered=False))
        return False

    def accept(self, index: int) -> bool:
        flight = self.flights[index]
        self.flights[index] = flight._replace(accepted=True)
        self._put(flight.outgoing)
        return False

    def _put(self, outgoing: Outgoing) -> None:
        if outgoing.routing_key == AUDIT_QUEUE:
            self.audited |= {outgoing.body}
            return
        places = {QUEUE: self.delayed, f"{QUEUE}.dead": self.dead, f"{QUEUE}.parked": self.parked}
        places[outgoing.routing_key].append(Copy.of(outgoing))

    def confirm(self, index: int) -> bool:
        flight = self.flights.pop(index)
        self.settlement.confirmed(flight.outgoing.token)
        return True

    def refuse(self, index: int) -> bool:
        self.settlement.unpublished(self.flights.pop(index).outgoing.token, "no queue", lost=False)
        return True

    def lose(self, index: int) -> bool:
        self.settlement.unpublished(self.flights.pop(index).outgoing.token, "gone", lost=True)
        return True

    def time(self, index: int) -> bool:
        self.settlement.publish_again(self.timers.pop(index))
        return True

    def disconnect(self, _what: int) -> bool:
        self._end_epoch()
        self.settlement.disconnected()
        return True

    def _end_epoch(self) -> None:
        self.ready += [found._replace(redelivered=True) for found in self.unacked.values()]
        self.unacked.clear()
        self.flights.clear()
        self.epoch += 1

    # ---- the operator ---------------------------------------------------------------------------------------------

    def pause(self, _what: int) -> bool:
        self.paused = True
        self.settlement.drain()
        return True

    def resume(self, _what: int) -> bool:
        self.paused = False
        self.settlement.accepting = True
        return False

    def retry_dead(self, index: int) -> bool:
        self.ready.append(self.dead.pop(index))
        return False

    def consumer_death(self, what: int) -> bool:
        self._die_and_restart(what)
        return False

    def _die_and_restart(self, burials: int) -> None:
        """The next consumer starts. With `burials` the master has finished them before: no verdicts follow."""
        self._end_epoch()
        self.timers.clear()
        self.heard = 0
        self.paused = False
        self.settlement = type(self.settlement)(self.pool, "host")
        for row in [row for row in self.rows.values() if row.state.open]:
            self.settlement.recall_row(row)
        for number, slot in enumerate(self.slots):
            slot.linked = False
            slot.taken = slot.tail
            self._hand_in(number)
            if burials:
                slot.verdicts = ()
        for worker in self.settlement.holdings.workers() - self._believed_alive():
            self._bury(worker.slot, worker.generation, LOST)
        for step in self.steps():
            step()

    def _believed_alive(self) -> set[Incarnation]:
        return {
            Incarnation(number, generation)
            for number, slot in enumerate(self.slots)
            for generation in (*slot.verdicts, *([slot.generation] if slot.alive else []))
        }

    # ---- what must hold -------------------------------------------------------------------------------------------

    def check_kept(self, body: bytes) -> None:
        """I1: of each body at least as many are done (durably) or still with the broker as were sent."""
        places = (self.ready, self.delayed, self.dead, self.parked, self.unacked.values())
        kept = sum(found.body == body for place in places for found in place)
        kept += sum(key.endswith(b"/" + body) for key in self.done_rows)
        if kept < Counter(self.laws.bodies)[body]:
            raise Broken(f"I1: a message {body!r} is acked and nowhere any more")

    def _check_start(self, run: RunId, mine: SlotModel) -> None:
        others = [slot.running for slot in self.slots if slot.alive and slot.running and slot is not mine]
        if any(other.key == run.key for other in others):
            raise Broken(f"I3: {run} runs twice at the same time")
        if run.attempt == 1 and run not in self.warned and any(self.laws.repeats(run, other) for other in self.started):
            raise Broken(f"{run} has no id and runs again as if it were new")
        if run.key in self.done:
            raise Broken(f"I2: {run} begins after it was done")
        if run in self.started:
            raise Broken(f"I5: {run} begins again undeclared")
        former = RunId(run.key, run.round, run.attempt - 1)
        if run.attempt > 1 and former not in self.started:
            raise Broken(f"I4: {run} is charged for a run that never began")
        if self.laws.on_crash == "park" and former in self.cut_off:
            raise Broken(f"I5: {run} follows a crash, which was to be parked")

    def check_rest(self) -> None:
        """At rest nothing is lost, nothing is stuck, nothing is remembered that is over (I1, I6)."""
        for body in set(self.laws.bodies):
            self.check_kept(body)
        left = memories(self.settlement) | {
            "unacked": self.unacked,
            "open rows": [row for row in self.rows.values() if row.state.open],
        }
        stuck = {name: what for name, what in left.items() if what}
        if stuck:
            raise Broken(f"at rest, but not over: {stuck}")


_CARRY_OUT: dict[type[Effect], Callable[[World, Any], None]] = {
    Ack: World._ack,
    GiveBack: World._give_back,
    Send: World._send,
    PublishOut: World._publish_out,
    PublishLater: World._publish_later,
}
