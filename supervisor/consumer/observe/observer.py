"""Sees what the settlement hears from the broker and what becomes durable, and makes log, health and metrics of it.

Runs in the consumer process, beside the settlement: it reads the settlement and decides nothing about a message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from supervisor.brokers import base
from supervisor.consumer.observe.delay_watch import DelayWatch
from supervisor.consumer.observe.health import Health
from supervisor.consumer.observe.measures import Measures
from supervisor.consumer.settlement.messages import UNRUN
from supervisor.consumer.settlement.missing import missing
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.settlement.unit_of_work import Say, Turn
from supervisor.link.frames import Letters, Snapshot
from supervisor.logs.events import Event
from supervisor.logs.structured import log

NAMED = 20
"""How many letters of one turn are named."""

MISSING_LOOKS = 12
"""So many looks at the queue, five seconds apart, may find failed messages that have not come back yet."""

_LETTERS = frozenset({Event.MESSAGE_DEAD, Event.MESSAGE_PARKED})
_REASON_CHARACTERS = 1000


class DeadLetterNews:
    """What the master is told of messages that were dead-lettered or parked, for the hooks, once that is durable.

    Bounded: a queue of which everything fails must not fill the channel to the master, so that of each turn the first
    few are named and the rest is counted. Best effort: the letters themselves are in their queues.
    """

    def __init__(self) -> None:
        self._named: list[dict[str, Any]] = []
        self._more = 0

    def gather(self, said: Iterable[Say]) -> None:
        """Take what concerns letters."""
        for saying in said:
            if saying.event in _LETTERS:
                if len(self._named) < NAMED:
                    self._named.append(_facts(saying))
                else:
                    self._more += 1

    def take(self) -> Letters | None:
        """All of it, once; None when there is nothing."""
        if not self._named:
            return None
        news = Letters(self._named, self._more)
        self._named, self._more = [], 0
        return news


def _facts(saying: Say) -> dict[str, Any]:
    fields = saying.fields
    return {
        "event": str(saying.event),
        "message_id": fields["message_id"],
        "round": fields["round"],
        "attempts": 0 if fields["cause"] in UNRUN else fields["attempt"],
        "cause": fields["cause"],
        "reason": fields["reason"][:_REASON_CHARACTERS],
        "status": fields["status"],
        "signal": fields["signal"],
        "worker": fields["worker"],
    }


class Observer:
    """Of one session. `subscribed`: whether the broker has said that deliveries come."""

    def __init__(self, settlement: Settlement, health: Health, measures: Measures, delays: DelayWatch) -> None:
        self.health = health
        self.measures = measures
        self.dead_letters = DeadLetterNews()
        self.subscribed = False
        self._missing_looks = 0  # so often in a row there were some
        self._settlement = settlement
        self.delays = delays
        self._see: dict[type[Any], Callable[[Any], None]] = {
            base.Connected: self._connected,
            base.Subscribed: self._subscribed,
            base.Disconnected: self._disconnected,
            base.Cancelled: self._cancelled,
            base.Confirmed: measures.publishes.confirmed,
            base.Unpublished: measures.publishes.unpublished,
            base.Blocked: lambda event: health.blocked(event.reason),
            base.Unblocked: lambda event: health.blocked(""),
            base.Declared: lambda event: health.made(event.text),
            base.Unsafe: lambda event: health.queues(event.remarks),
            base.Fatal: lambda event: health.connection("refused", why=event.reason),
            base.Depth: self._depth,
            base.Held: lambda event: None,
            base.Unresponsive: lambda event: health.unresponsive(event.waited_s),
        }

    def see(self, event: Any) -> None:
        """Take in a broker `event` other than a delivery, before the settlement hears of it."""
        self._see[type(event)](event)

    def committed(self, turn: Turn) -> None:
        """This turn is durable."""
        self.delays.turned(turn.rows)
        if turn.said:
            self.dead_letters.gather(turn.said)

    def snapshot(self, connections_opened: int) -> Snapshot:
        """What `status` shows of the session now. `connections_opened`: since the consumer started."""
        symptoms, counters = self.health.present, dict(self.measures.counters)
        return Snapshot(
            0.0,
            self.health.connection_status(connections_opened),
            self.health.queue_status(),
            counters,
            len(self._settlement.entries),
            symptoms,
            self.measures.facts(symptom.name for symptom in symptoms),
        )

    def _connected(self, event: base.Connected) -> None:
        self.health.connection("connected", event.host)
        self.measures.connections.update(opened=1)
        log(Event.CONSUMER_CONNECTED, f"connected to {event.host}", host=event.host)

    def _subscribed(self, event: base.Subscribed) -> None:
        self.subscribed = True
        self.health.connection("connected")

    def _disconnected(self, event: base.Disconnected) -> None:
        self.subscribed = False
        self.measures.connections.update(["lost" if self.health.connected else "failed"])
        why = f"{event.reason}; trying again in {event.retry_in_s:.1f} s"
        self.health.connection("connecting", event.host, why)
        log(
            Event.CONSUMER_DISCONNECTED,
            f"no connection to {event.host}: {why}",
            level=logging.WARNING,
            host=event.host,
            reason=event.reason,
            retry_in_s=round(event.retry_in_s, 3),
        )

    def _cancelled(self, event: base.Cancelled) -> None:
        self.subscribed = False
        if event.reason and self._settlement.accepting:
            text = f"the broker ended the subscription ({event.reason}): subscribing again"
            log(Event.CONSUMER_DISCONNECTED, text, level=logging.WARNING, reason=event.reason)

    def _depth(self, event: base.Depth) -> None:
        prefetch = self._settlement.pool.prefetch
        if len(self._settlement.entries) >= prefetch:
            self.health.fed()  # there is no room for more: the pool is not starved
        self.health.depth(event, self.subscribed, self.measures.counters["delivered"], prefetch)
        self._tell_missing()

    def _tell_missing(self) -> None:
        """Failed messages that their queue does not bring back are a note, once that lasts."""
        count = len(missing(self._settlement.entries.values()))
        self._missing_looks = self._missing_looks + 1 if count else 0
        pool = self._settlement.pool
        if not count:
            self.health.heal(Event.MESSAGES_MISSING)
        elif self._missing_looks >= MISSING_LOOKS:
            text = (
                f"{count} failed message(s) have not come back from {pool.queue!r}: another consumer may have them, or "
                "it was purged. They are waited for until it has been empty for ten minutes; `preforkd pending list "
                f"{pool.name}` names them"
            )
            self.health.notice(Event.MESSAGES_MISSING, text)
