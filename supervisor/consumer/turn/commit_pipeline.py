"""The second half of a turn, in one direction: what was decided is committed; once it is durable, its effects follow.

Runs in the consumer process. One commit at a time: while the disk works on one, later decisions wait in the unit of
work and share the next commit. Nothing here may decide about a message.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from supervisor.brokers.base import Broker, Outgoing
from supervisor.consumer.observe.measures import Publishes
from supervisor.consumer.observe.observer import Observer
from supervisor.consumer.settlement import unit_of_work
from supervisor.consumer.settlement.messages import Failure
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.workers.links import WorkerLinks
from supervisor.consumer.workers.outcomes import Outcomes
from supervisor.ledger.base import Ledger
from supervisor.link.frames import Incarnation, Recall, Run
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import OutcomeKind
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import CallLater

SLOW_COMMIT_S = 1.0


class Effects:
    """Carries out the decisions of a durable turn: hands them to the broker and to the workers' links, unflushed.

    An effect of one message that raises fails the run of that message and no other: no content that a publisher or a
    handler has put into a message stops the consumer. `call_later` calls nothing once the session has ended.
    """

    def __init__(
        self, settlement: Settlement, broker: Broker, links: WorkerLinks, publishes: Publishes, call_later: CallLater
    ) -> None:
        self._settlement = settlement
        self._broker = broker
        self._links = links
        self._publishes = publishes
        self._call_later = call_later
        self._how: dict[type[unit_of_work.Effect], Callable[[Any], None]] = {
            unit_of_work.Ack: lambda effect: self._broker.ack(effect.epoch, effect.tag),
            unit_of_work.Requeue: lambda effect: self._broker.requeue(effect.epoch, effect.tag),
            unit_of_work.Send: lambda effect: self._links.send(effect.worker, effect.frame),
            unit_of_work.RecallAll: self._recall,
            Outgoing: self._publish,
            unit_of_work.PublishLater: self._publish_later,
        }

    def carry_out(self, effects: Iterable[unit_of_work.Effect]) -> None:
        """In order. Raises what an effect raises that concerns no single message."""
        for effect in effects:
            try:
                self._how[type(effect)](effect)
            except Exception as error:  # noqa: BLE001  (of one message, mostly; `_fail` raises the others again)
                self._fail(effect, error)

    def flush(self) -> None:
        """Write what was handed over, as far as the sockets take it."""
        self._broker.flush()
        # fail-point: consumer.broker-flushed: the broker has the turn's effects, the workers have not
        self._links.flush()
        # fail-point: consumer.links-flushed: all effects of the turn are out

    def _fail(self, effect: unit_of_work.Effect, error: Exception) -> None:
        """The message that the effect is for fails; the next turn decides what becomes of it."""
        reason = f"{type(error).__name__}: {error}"
        if isinstance(effect, Outgoing):
            self._settlement.unpublished(effect.token, f"it cannot be published: {reason}", lost=False, for_good=True)
        elif isinstance(effect, unit_of_work.Send) and isinstance(effect.frame, Run):
            failure = Failure("unreadable", f"it cannot be sent to a worker: {reason}")
            self._settlement.outcome(effect.worker, effect.frame.run, OutcomeKind.REJECT, failure)
        else:
            raise error

    def _recall(self, effect: unit_of_work.RecallAll) -> None:
        for worker in self._links.greeted:
            self._links.send(worker, Recall())

    def _publish(self, outgoing: Outgoing) -> None:
        self._broker.publish(outgoing)
        self._publishes.sent()

    def _publish_later(self, effect: unit_of_work.PublishLater) -> None:
        again_s = effect.delay_s * random.uniform(1, 2)
        self._call_later(again_s, lambda: self._settlement.publications.publish_again(effect.token))


class Commit(NamedTuple):
    """One turn on its way. `tails`: how far its rows reach in the workers' rings. `exit_notices`: those that it makes
    durable. `begun_s`: CLOCK_MONOTONIC."""

    turn: unit_of_work.Turn
    tails: dict[Slot, int]
    exit_notices: list[Incarnation]
    begun_s: float


class CommitPipeline:
    """The commit under way of one session, its effects, ring tails and exit notices."""

    def __init__(
        self, ledger: Ledger, settlement: Settlement, outcomes: Outcomes, effects: Effects, observer: Observer
    ) -> None:
        self._ledger = ledger
        self._settlement = settlement
        self._decisions = settlement.decisions
        self._outcomes = outcomes
        self._effects = effects
        self._observer = observer
        self._commit: Commit | None = None
        self._slow = False
        self._uncommitted = Counter[str]()  # counters of turns without rows
        self._exit_notices: list[Incarnation] = []  # decided upon, not in a commit yet
        self._durable_exit_notices: list[Incarnation] = []

    @property
    def under_way(self) -> bool:
        """Whether a turn is not durable yet, or has not been carried out."""
        return self._commit is not None

    @property
    def held_up(self) -> bool:
        """Whether the disk has worked on the commit for so long that it must not be given more to do."""
        return self.under_way and self._slow

    def turn(self) -> None:
        """Carry out the turn before, once it is durable; then begin the commit of what was decided since.

        Call it after all that was read has been heard: a hello, or the end of a connection, withdraws effects (I3).
        Raises LedgerError.
        """
        self._ledger.attend()
        self._finish()
        if self._commit is None:
            self._begin(self._decisions.take())
            self._finish()

    def note_exit_notice(self, worker: Incarnation) -> None:
        """The death of this worker has been decided upon: the next commit makes that durable. The master repeats its
        notice until it is taken; the first one counts."""
        committing = self._commit.exit_notices if self._commit is not None else []
        if worker not in self._exit_notices and worker not in committing:
            self._exit_notices.append(worker)

    def take_exit_notices(self) -> list[Incarnation]:
        """The workers whose exit notices have become durable since the last call."""
        taken, self._durable_exit_notices = self._durable_exit_notices, []
        return taken

    def _begin(self, turn: unit_of_work.Turn) -> None:
        """Log what was said, then one commit for all rows. Counters alone wait for the next commit with rows."""
        for saying in turn.said:
            level = logging.WARNING if saying.warning else logging.INFO
            log(saying.event, saying.text, level=level, **saying.fields)
        self._commit = Commit(turn, self._outcomes.take_tails(), self._exit_notices, monotonic_s())
        self._slow, self._exit_notices = False, []
        self._observer.measures.counters.update(turn.counters)
        self._uncommitted.update(turn.counters)
        if turn.rows:
            # fail-point: consumer.decided: decided, not durable
            self._ledger.submit(turn.rows, self._uncommitted)
            self._uncommitted = Counter()

    def _finish(self) -> None:
        """Carry out the turn under way if it is durable by now."""
        commit = self._commit
        if commit is None:
            return
        if commit.turn.rows:
            results = self._ledger.results()
            self._time(monotonic_s() - commit.begun_s, results is not None)
            if results is None:
                return
            for key, rival in results.refused.items():
                self._settlement.refused(commit.turn.rows.pop(key), rival)
        self._commit = None
        self._durable_exit_notices += commit.exit_notices
        # fail-point: consumer.committed: durable; tails, broker and workers are as before
        self._outcomes.advance_tails(commit.tails)
        # fail-point: consumer.tails-advanced: durable, the rings are free, no effect has left
        self._observer.committed(commit.turn)
        self._effects.carry_out(self._decisions.take_effects())
        # fail-point: consumer.effects-queued: effects are handed to broker and links, unsent
        self._effects.flush()

    def _time(self, took_s: float, durable: bool) -> None:
        if durable:
            self._observer.measures.commit_s.add(took_s)
        if took_s > SLOW_COMMIT_S and not self._slow:
            self._slow = True
            took = f"took {took_s:.1f} s" if durable else f"has not ended for {took_s:.1f} s"
            text = f"a ledger commit {took}: {self._ledger.waits_for}, which delays every message"
            log(Event.LEDGER_SLOW, text, level=logging.WARNING, seconds=round(took_s, 3))
