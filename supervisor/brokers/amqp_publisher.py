"""The publishing connection: pipelined confirms, and exactly one fate for every publication.

Runs in the consumer and the command line. A connection of its own, because RabbitMQ stops reading from any connection
that has published while a memory or disk alarm is up: acks on it would stall; and because a publish to a missing
exchange closes its channel, which would return everything in flight.
Confirms: https://www.rabbitmq.com/confirms.html (a Return comes before the confirm of its message).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import pika
import pika.channel
import pika.exceptions
import pika.frame
import pika.spec

from supervisor.brokers.amqp_connection import Dialer, Target
from supervisor.brokers.amqp_errors import Trouble, explain
from supervisor.brokers.amqp_messages import EncodedProperties, encode, encoded
from supervisor.clock import monotonic_s
from supervisor.message import Publication
from supervisor.reactor import Reactor, Timer


class PublisherOwner(Protocol):
    """Who is told what becomes of publications."""

    def publisher_ready(self) -> None:
        """Connection and confirm channel are up (again)."""

    def publisher_down(self, trouble: Trouble, retry_in_s: float) -> None:
        """The connection was lost or did not come about. Every outstanding publication was reported unpublished."""

    def publisher_blocked(self, reason: str | None) -> None:
        """The broker takes no publications for this reason; None: it takes them again."""

    def confirmed(self, token: int) -> None:
        """The broker has it."""

    def unpublished(self, token: int, reason: str, lost: bool) -> None:
        """The broker does not have it; `lost`: nobody knows, it is to be published again."""


class _Entry:
    """A publication without a confirm. `settled`: its fate was told, only its confirm is still to come."""

    __slots__ = ("due_s", "properties", "publication", "settled", "token")

    def __init__(self, token: int, publication: Publication, due_s: float) -> None:
        self.token = token
        self.publication = publication
        self.properties: EncodedProperties = encode(publication.properties)
        self.due_s = due_s
        self.settled = False


class Publisher:
    """Publishes mandatory and persistent over one channel; holds back what cannot be sent now.

    `timeout_s`: how long a publication may wait for its confirm, blocked and reconnecting time included.
    """

    def __init__(self, reactor: Reactor, targets: list[Target], owner: PublisherOwner, timeout_s: float) -> None:
        self.dialer = Dialer(reactor, targets, self)
        self._reactor = reactor
        self._owner = owner
        self._timeout_s = timeout_s
        self._channel: pika.channel.Channel | None = None
        self._blocked = False
        self._next_tag = 1
        self._sent: dict[int, _Entry] = {}
        self._waiting: deque[_Entry] = deque()
        self._deadline: Timer | None = None

    @property
    def ready(self) -> bool:
        """Whether publications leave at once."""
        return self._channel is not None and not self._blocked

    @property
    def connected(self) -> bool:
        """Whether connection and confirm channel are up, blocked or not."""
        return self._channel is not None

    def publish(self, token: int, publication: Publication) -> None:
        """Send, or hold until it can be sent; the owner is told its fate under `token`."""
        entry = _Entry(token, publication, monotonic_s() + self._timeout_s)
        if self._deadline is None:
            self._deadline = self._reactor.call_later(self._timeout_s, self._give_up_overdue)
        if self._channel is not None and not self._blocked:
            self._send(self._channel, entry)
        else:
            self._waiting.append(entry)

    def forget(self) -> None:
        """Tell nobody anything more about what was published until now."""
        self._waiting.clear()
        for entry in self._sent.values():
            entry.settled = True

    def close(self) -> None:
        """Give up deadlines and connection."""
        if self._deadline is not None:
            self._reactor.remove_timeout(self._deadline)
            self._deadline = None
        self.dialer.close()
        if self._blocked:  # during an alarm the broker reads nothing from us, not even a goodbye
            self.dialer.cut("closed while blocked")

    # ---- connection -----------------------------------------------------------------------------------------------

    def connection_up(self, connection: pika.SelectConnection) -> None:
        """Part of Owner: open the confirm channel."""
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel_open)

    def connection_down(self, trouble: Trouble, retry_in_s: float) -> None:
        """Part of Owner: nobody knows about what was not confirmed; what was not sent waits for the next connection."""
        self._channel = None
        if self._blocked:
            self._on_unblocked(None, None)
        self._lose_sent(f"the publishing connection ended: {trouble.reason}", "")
        self._owner.publisher_down(trouble, retry_in_s)

    def _on_channel_open(self, channel: pika.channel.Channel) -> None:
        self._next_tag = 1
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=lambda _ok: self._on_ready(channel))

    def _on_ready(self, channel: pika.channel.Channel) -> None:
        self._channel = channel
        self._send_waiting()
        self._owner.publisher_ready()

    def _on_channel_closed(self, channel: pika.channel.Channel, error: BaseException) -> None:
        """One publication was refused, which is known only where the broker names its exchange; the others are lost."""
        self._channel = None
        refusal = str(error) if isinstance(error, pika.exceptions.ChannelClosedByBroker) else ""
        self._lose_sent(f"the publishing channel was closed: {explain(error).reason}", refusal)
        if channel.connection.is_open:
            channel.connection.channel(on_open_callback=self._on_channel_open)

    def _on_blocked(self, _connection: pika.SelectConnection, frame: pika.frame.Method) -> None:
        self._blocked = True
        self._owner.publisher_blocked(frame.method.reason or "resource alarm")

    def _on_unblocked(self, _connection: pika.SelectConnection | None, _frame: pika.frame.Method | None) -> None:
        self._blocked = False
        self._owner.publisher_blocked(None)
        self._send_waiting()

    # ---- fates ----------------------------------------------------------------------------------------------------

    def _send(self, channel: pika.channel.Channel, entry: _Entry) -> None:
        publication = entry.publication
        channel.basic_publish(
            publication.exchange, publication.routing_key, publication.body, entry.properties, mandatory=True
        )
        self._sent[self._next_tag] = entry
        self._next_tag += 1
        # fail-point: consumer.amqp-published: a publication is on its way, no confirm has come

    def _send_waiting(self) -> None:
        while self._waiting and self._channel is not None and not self._blocked:
            self._send(self._channel, self._waiting.popleft())

    def _on_confirm(self, frame: pika.frame.Method) -> None:
        method = frame.method
        nacked = isinstance(method, pika.spec.Basic.Nack)
        for entry in self._take_confirmed(method.delivery_tag, method.multiple):
            if entry.settled:
                continue
            if nacked:
                self._settle(entry, "the broker could not take it (nack): queue full, or its leader lost")
            else:
                self._owner.confirmed(entry.token)

    def _take_confirmed(self, tag: int, multiple: bool) -> list[_Entry]:
        if not multiple:
            entry = self._sent.pop(tag, None)
            return [] if entry is None else [entry]
        tags = []
        for sent in self._sent:  # in the order of their tags
            if sent > tag:
                break
            tags.append(sent)
        return [self._sent.pop(sent) for sent in tags]

    def _on_return(
        self,
        _channel: pika.channel.Channel,
        method: pika.spec.Basic.Return,
        properties: pika.spec.BasicProperties,
        body: bytes,
    ) -> None:
        """A Return names no tag. Equal publications are interchangeable: the oldest equal one is the returned one."""
        data = encoded(properties)
        for entry in self._sent.values():
            publication = entry.publication
            target = (publication.exchange, publication.routing_key)
            if entry.settled or target != (method.exchange, method.routing_key):
                continue
            if publication.body == body and entry.properties.data == data:
                self._settle(
                    entry, f"no queue for exchange {target[0]!r}, routing key {target[1]!r} ({method.reply_text})"
                )
                return

    def _settle(self, entry: _Entry, reason: str, lost: bool = False) -> None:
        entry.settled = True
        self._owner.unpublished(entry.token, reason, lost)

    def _lose_sent(self, reason: str, refusal: str) -> None:
        """`refusal`: the broker's words when it closed the channel because of one of these, else empty."""
        entries = [entry for entry in self._sent.values() if not entry.settled]
        self._sent.clear()
        blamed = {entry.token for entry in entries if f"exchange '{entry.publication.exchange}'" in refusal}
        suspects = blamed or ({entry.token for entry in entries} if refusal else set())
        for entry in entries:
            self._settle(entry, reason, lost=entry.token not in suspects)

    def _give_up_overdue(self) -> None:
        """Deadlines rise in the order of publishing: look at the heads only."""
        now_s = monotonic_s()
        self._deadline = None
        while self._waiting and self._waiting[0].due_s <= now_s:
            self._settle(self._waiting.popleft(), f"it could not be sent within {self._timeout_s:g} s")
        open_entries = [entry for entry in self._sent.values() if not entry.settled]
        for entry in open_entries:
            if entry.due_s <= now_s:
                self._settle(entry, f"the broker did not confirm it within {self._timeout_s:g} s")
        due_s = min((entry.due_s for entry in (*open_entries, *self._waiting) if not entry.settled), default=None)
        if due_s is not None:
            self._deadline = self._reactor.call_later(due_s - now_s, self._give_up_overdue)
