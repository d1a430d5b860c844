"""Publishes copies over their queues, which are looked for before the first copy, and again after every refusal.

Runs in the consumer. If such a queue is deleted while it is in use, the broker returns the next copy for it. The copy
after that finds the queue missing and declares it again. Copies for a queue that is being looked for wait together.
"""

from __future__ import annotations

from supervisor.brokers.amqp.declarer import Declarer
from supervisor.brokers.amqp.errors import Trouble
from supervisor.brokers.amqp.publisher import Publisher
from supervisor.brokers.amqp.queues import QUORUM, QueuePlan, delay_queue
from supervisor.brokers.base import Outgoing
from supervisor.brokers.names import dead_queue, parked_queue
from supervisor.messages.message import Publication
from supervisor.system.clock import monotonic_s

LOOK_AGAIN_S = 0.5
"""Refusals in a row (a full queue) cause one look in this time. A refused copy is tried again later than that."""


class CopyQueues:
    """Those of one pool's queue, over one consuming connection. Each publication gets its fate from the publisher, or
    from here: then it is appended to the publisher's events.
    """

    def __init__(self, queue: str, declarer: Declarer, publisher: Publisher) -> None:
        self._queue = queue
        self._declarer = declarer
        self._publisher = publisher
        self._own = {name: QueuePlan(name, QUORUM) for name in (dead_queue(queue), parked_queue(queue))}
        self._found: set[str] = set()
        self._failures = publisher.failures
        self._doubted_s = -LOOK_AGAIN_S  # CLOCK_MONOTONIC
        self._waiting: dict[str, list[tuple[int, Publication]]] = {}

    def publish(self, outgoing: Outgoing) -> None:
        """Publish once its queue is known to be there; at once where it is for none of these queues."""
        plan = self._plan(outgoing)
        name = plan.name if plan else outgoing.routing_key
        publication = Publication(outgoing.exchange, name, outgoing.properties, outgoing.body)
        self._doubt()
        if plan is None or name in self._found:
            self._publisher.publish(outgoing.token, publication)
            return
        waiting = self._waiting.setdefault(name, [])
        waiting.append((outgoing.token, publication))
        if len(waiting) == 1:
            self._declarer.ensure([plan], lambda trouble: self._looked(name, trouble))

    def close(self) -> None:
        """Report the waiting publications as lost: the connection has ended, and with it the search for queues."""
        for name in list(self._waiting):
            self._fail(name, "the connection to the broker ended", lost=True)

    def _doubt(self) -> None:
        """Where something was refused since, look for each queue again, but not all the time."""
        if self._publisher.failures != self._failures and monotonic_s() - self._doubted_s >= LOOK_AGAIN_S:
            self._failures, self._doubted_s = self._publisher.failures, monotonic_s()
            self._found.clear()

    def _plan(self, outgoing: Outgoing) -> QueuePlan | None:
        if outgoing.delay_s > 0:
            return delay_queue(self._queue, outgoing.delay_s)
        return None if outgoing.exchange else self._own.get(outgoing.routing_key)

    def _looked(self, name: str, trouble: Trouble | None) -> None:
        if trouble is not None:
            self._fail(name, trouble.reason, lost=False)
            return
        self._found.add(name)
        for token, publication in self._waiting.pop(name):
            self._publisher.publish(token, publication)

    def _fail(self, name: str, reason: str, lost: bool) -> None:
        for token, _ in self._waiting.pop(name):
            self._publisher.tell_unpublished(token, reason, lost=lost)
