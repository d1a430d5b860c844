"""Carries out the decisions of a durable turn: hands them to the broker and to the workers' links, unflushed.

Runs in the consumer process. An effect of one message that raises fails the run of that message and no other: no
content that a publisher or a handler has put into a message stops the consumer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from supervisor.brokers.base import Broker
from supervisor.consumer.observe.measures import Publishes
from supervisor.consumer.settlement.messages import Failure
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.turn import actions
from supervisor.consumer.workers.links import WorkerLinks
from supervisor.link.frames import Recall, Run
from supervisor.scoreboard.words import OutcomeKind
from supervisor.system.reactor import CallLater


class Effects:
    """Of one session. `call_later` calls nothing once the session has ended."""

    def __init__(
        self, settlement: Settlement, broker: Broker, links: WorkerLinks, publishes: Publishes, call_later: CallLater
    ) -> None:
        self._settlement = settlement
        self._broker = broker
        self._links = links
        self._publishes = publishes
        self._call_later = call_later
        self._how: dict[type[actions.Effect], Callable[[Any], None]] = {
            actions.Ack: lambda effect: self._broker.ack(effect.epoch, effect.tag),
            actions.Requeue: lambda effect: self._broker.requeue(effect.epoch, effect.tag),
            actions.Send: lambda effect: self._links.send(effect.worker, effect.frame),
            actions.RecallAll: self._recall,
            actions.PublishOut: self._publish,
            actions.PublishLater: self._publish_later,
        }

    def carry_out(self, effects: Iterable[actions.Effect]) -> None:
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

    def _fail(self, effect: actions.Effect, error: Exception) -> None:
        """The message that the effect is for fails; the next turn decides what becomes of it."""
        reason = f"{type(error).__name__}: {error}"
        if isinstance(effect, actions.PublishOut):
            self._settlement.unpublished(
                effect.outgoing.token, f"it cannot be published: {reason}", lost=False, for_good=True
            )
        elif isinstance(effect, actions.Send) and isinstance(effect.frame, Run):
            failure = Failure("unreadable", f"it cannot be sent to a worker: {reason}")
            self._settlement.outcome(effect.worker, effect.frame.run, OutcomeKind.REJECT, failure)
        else:
            raise error

    def _recall(self, effect: actions.RecallAll) -> None:
        for worker in self._links.greeted:
            self._links.send(worker, Recall())

    def _publish(self, effect: actions.PublishOut) -> None:
        self._publishes.sent()
        self._broker.publish(effect.outgoing)

    def _publish_later(self, effect: actions.PublishLater) -> None:
        again_s = effect.delay_s * random.uniform(1, 2)
        self._call_later(again_s, lambda: self._settlement.publications.publish_again(effect.token))
