"""The broker of a modelled world around the settlement: the pool's queue, where its copies go, what is under way."""

from __future__ import annotations

from supervisor.brokers.base import Outgoing
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.delivery_limit import worn_from
from supervisor.consumer.settlement.messages import Arrival
from tests.support.settlement_inbox import former
from tests.support.settlement_parts import AUDIT_QUEUE, EXPIRES_S, QUEUE, Broken, Copy, Flight, Laws, key_of


class BrokerModel:
    """One queue and its connection. Methods that are events tell whether the consumer hears of them."""

    def __init__(self, laws: Laws) -> None:
        self.delivery_limit = laws.delivery_limit
        self.expires = laws.expires
        self._with_rounds = laws.neighbour
        self.dropped: list[Copy] = []  # since the present consumer was started
        ready = [Copy(body, f"id-{i}" if laws.ids else None, former(laws)) for i, body in enumerate(laws.bodies)]
        self.ready = ready * 2 if laws.rival else ready
        self.delayed: list[Copy] = []
        self.dead: list[Copy] = []
        self.parked: list[Copy] = []
        self.unacked: dict[int, Copy] = {}
        self.flights: list[Flight] = []
        self.audited: frozenset[bytes] = frozenset()  # what handlers published and the broker has
        self.closed = frozenset(laws.refuses)  # queues that take nothing now
        self.epoch = 1
        self.tag = 0
        self.given = 0  # ids, to messages without one

    def come_due(self, index: int) -> bool:
        self.ready.append(self.delayed.pop(index)._replace(redelivered=False))
        return False

    def retry_dead(self, index: int) -> bool:
        self.ready.append(self.dead.pop(index))
        return False

    def accept(self, index: int) -> bool:
        flight = self.flights[index]
        self.flights[index] = flight._replace(accepted=True)
        self.take_copy(flight.outgoing)
        return False

    def takes(self, outgoing: Outgoing) -> bool:
        """Whether the queue that a publication is for takes it."""
        return outgoing.routing_key not in self.closed

    def reopen(self, _what: int) -> bool:
        self.closed = frozenset()
        return False

    def hand_over(self, index: int) -> Copy:
        """One that was ready is delivered, with a tag of its own."""
        self.tag += 1
        self.unacked[self.tag] = self.ready.pop(index)
        return self.unacked[self.tag]

    def arrival(self, found: Copy) -> Arrival:
        """One that was handed over, as the consumer identifies it."""
        delivery = found.delivered(self.epoch, self.tag)
        stamp = copies.stamp(delivery, QUEUE)
        if found.id is None:
            self.given += 1
        id = found.id or f"preforkd-{self.given:032x}"
        likeness = b"" if found.id else found.body
        key = key_of(id, found.body)
        run = (*(stamp or (1, 1)), stamp is not None)
        worn = self.delivery_limit is not None and found.count >= worn_from({"x-delivery-limit": self.delivery_limit})
        repeats = found.id is None and copies.is_repetition(delivery)
        more = {"earlier": copies.earlier_of(delivery), "expires": EXPIRES_S if self.expires else None}
        return Arrival(delivery, key, id, found.id is not None, *run, likeness, worn, repeats, **more)

    def settled(self, epoch: int, tag: int) -> Copy:
        """The consumer settles a delivery."""
        if epoch != self.epoch:
            raise Broken(f"a tag of epoch {epoch} is settled in epoch {self.epoch}")
        if tag not in self.unacked:
            raise Broken(f"tag {tag} is settled twice, or was never delivered")
        return self.unacked.pop(tag)

    def end_epoch(self, drops: bool = True) -> None:
        """The channel is gone: what was not settled is ready again. `drops`: or dropped, at its limit. What is on its
        way to the broker has another connection.
        """
        for found in self.unacked.values():
            self.have_back(found, drops)
        self.unacked.clear()
        self.epoch += 1

    def have_back(self, found: Copy, drops: bool = True) -> None:
        """A delivery that was not settled."""
        limit, count = self.delivery_limit, found.count + (self.delivery_limit is not None)
        found = found._replace(redelivered=True, count=count if limit is None else min(count, limit))
        (self.dropped if drops and limit is not None and count > limit else self.ready).append(found)

    def take_copy(self, outgoing: Outgoing) -> None:
        """A publication is in its queue."""
        if outgoing.routing_key == AUDIT_QUEUE:
            self.audited |= {outgoing.body}
            return
        places = {
            QUEUE: self.delayed if outgoing.delay_s else self.ready,
            f"{QUEUE}.dead": self.dead,
            f"{QUEUE}.parked": self.parked,
        }
        places[outgoing.routing_key].append(Copy.of(outgoing, self._with_rounds))
