"""The queues for copies of messages: looked for before the first copy of an epoch, and after every refusal.

Runs in the consumer. If such a queue is deleted while it is in use, the broker returns the next copy for it. The copy
after that finds the queue missing and declares it again. Copies for a queue that is being looked for wait together.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.brokers.amqp.declarer import Declarer
from supervisor.brokers.amqp.errors import Trouble
from supervisor.brokers.amqp.queues import QUORUM, QueuePlan, delay_queue
from supervisor.brokers.base import Outgoing
from supervisor.brokers.names import dead_queue, parked_queue
from supervisor.messages.message import Publication
from supervisor.system.clock import monotonic_s

Send = Callable[[Publication], object]
Refuse = Callable[[Trouble], object]

LOOK_AGAIN_S = 0.5
"""Refusals in a row (a full queue) cause one look in this time. A refused copy is tried again later than that."""


class CopyQueues:
    """Those of one pool's queue, in one epoch."""

    def __init__(self, queue: str, declarer: Declarer) -> None:
        self._queue = queue
        self._declarer = declarer
        self._own = {name: QueuePlan(name, QUORUM) for name in (dead_queue(queue), parked_queue(queue))}
        self._found: set[str] = set()
        self._doubted_s = -LOOK_AGAIN_S  # CLOCK_MONOTONIC
        self._wanted: dict[str, list[Callable[[Trouble | None], object]]] = {}

    def doubt(self) -> None:
        """Something was refused: look for each queue again before the next copy, but not all the time."""
        if monotonic_s() - self._doubted_s >= LOOK_AGAIN_S:
            self._doubted_s = monotonic_s()
            self._found.clear()

    def send(self, outgoing: Outgoing, send: Send, refuse: Refuse) -> None:
        """Call `send` with the publication once its queue is known to be there, or `refuse` with why it is not.

        A publication that is for none of these queues is sent at once. Neither is called when the connection is lost.
        """
        plan = self._plan(outgoing)
        name = plan.name if plan else outgoing.routing_key
        publication = Publication(outgoing.exchange, name, outgoing.properties, outgoing.body)
        if plan is None or name in self._found:
            send(publication)
            return
        waiting = self._wanted.setdefault(name, [])
        waiting.append(lambda trouble: refuse(trouble) if trouble else send(publication))
        if len(waiting) == 1:
            self._declarer.ensure([plan], lambda trouble: self._looked(name, trouble))

    def _plan(self, outgoing: Outgoing) -> QueuePlan | None:
        if outgoing.delay_s > 0:
            return delay_queue(self._queue, outgoing.delay_s)
        return None if outgoing.exchange else self._own.get(outgoing.routing_key)

    def _looked(self, name: str, trouble: Trouble | None) -> None:
        if trouble is None:
            self._found.add(name)
        for done in self._wanted.pop(name):
            done(trouble)
