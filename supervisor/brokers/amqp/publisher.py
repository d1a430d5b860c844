"""The publishing connection: pipelined publisher confirms, and exactly one fate for every publication.

Runs in the consumer, the command line and a client's thread. A connection of its own, because RabbitMQ stops reading
from any connection that has published while a memory or disk alarm is up: acks on it would stall; and because a
publish to a missing exchange closes its channel, which would return everything in flight. What may have closed it is
sent again alone (suspects.py), so that it fails by itself.
Confirms: https://www.rabbitmq.com/confirms.html (a Return comes before the confirm of its message).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import pika
import pika.channel
import pika.exceptions
import pika.frame
import pika.spec

from supervisor.brokers.amqp.connection import Dialer
from supervisor.brokers.amqp.errors import Trouble, explain
from supervisor.brokers.amqp.messages import CANNOT_ENCODE, encoded, fitted
from supervisor.brokers.amqp.suspects import (
    LOSSES_BEFORE_ALONE,
    End,
    Taken,
    Unconfirmed,
    is_a_risk,
    returned,
    sentence,
)
from supervisor.brokers.base import Blocked, BrokerEvent, Confirmed, Unblocked, Unpublished
from supervisor.messages.message import Publication
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor, Timer


class Publisher:
    """Publishes mandatory and persistent over one channel; holds back what cannot be sent now.

    Fates of publications, and whether the broker accepts any (Blocked, Unblocked), go into `events`. `timeout_s`: how
    long a publication may wait for its confirm, blocked and reconnecting time included. `on_ready` is called when
    connection and confirm channel are up (again), `on_down` as of Dialer, after all fates that it decides.
    """

    def __init__(
        self,
        reactor: Reactor,
        events: deque[BrokerEvent],
        timeout_s: float,
        on_ready: Callable[[], object],
        on_down: Callable[[Trouble, float], object],
    ) -> None:
        self.dialer = Dialer(reactor, self._connection_up, self._connection_down, final_when_open=False)
        self.failures = 0
        """The number of publications that were not confirmed."""
        self._events = events
        self._on_ready = on_ready
        self._on_down = on_down
        self._reactor = reactor
        self._timeout_s = timeout_s
        self._channel: pika.channel.Channel | None = None
        self._blocked = False
        self._last_tag = 0
        self._seen_tag = 0  # the broker's channel is past everything up to here, confirmed or not
        self._asked_tag = 0  # and up to here once it has answered
        self._sent: dict[int, Unconfirmed] = {}
        self._waiting: deque[Unconfirmed] = deque()
        self._suspects: deque[Unconfirmed] = deque()  # to be sent one at a time, before all others
        self._taken = Taken()
        self._drained_s = 0.0  # until when a suspect waits for the confirms of others
        self._losses: dict[int, int] = {}  # by token, of what was told `lost` last and may be published again
        self._deadline: Timer | None = None

    @property
    def connected(self) -> bool:
        """Whether connection and confirm channel are up, blocked or not."""
        return self._channel is not None

    def publish(self, token: int, publication: Publication) -> None:
        """Send a publication, or hold it until it can be sent; its one fate has this `token`."""
        losses = self._losses.pop(token, 0) if self._losses else 0
        entry = Unconfirmed(token, publication, monotonic_s() + self._timeout_s, losses)
        if self._deadline is None:
            self._deadline = self._reactor.call_later(self._timeout_s, self._give_up_overdue)
        alone = losses >= LOSSES_BEFORE_ALONE or is_a_risk(publication, self._user, self._taken)
        (self._suspects if alone else self._waiting).append(entry)
        self._send_waiting()

    def tell_unpublished(self, token: int, reason: str, **facts: bool) -> None:
        """Report an Unpublished; `facts`: its fields."""
        self.failures += 1
        self._events.append(Unpublished(token, reason, **facts))

    def restart_deadlines(self) -> None:
        """Give all publications without a fate the whole time again."""
        for entry in (*self._sent.values(), *self._suspects, *self._waiting):
            entry.due_s = monotonic_s() + self._timeout_s

    def close(self) -> None:
        """Cancel deadlines and close the connection."""
        if self._deadline is not None:
            self._reactor.remove_timeout(self._deadline)
            self._deadline = None
        self.dialer.close()
        if self._blocked:  # during an alarm the broker reads nothing, not even connection.close
            self.dialer.cut("closed while blocked")

    # ---- connection -----------------------------------------------------------------------------------------------

    def _connection_up(self, connection: pika.SelectConnection) -> None:
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel_open)

    def _connection_down(self, trouble: Trouble, retry_in_s: float) -> None:
        """Unconfirmed publications are lost; unsent ones wait for the next connection."""
        self._channel = None
        if self._blocked:
            self._on_unblocked(None, None)
        end = End.CRASHED if trouble.is_crash else End.LOST
        self._end(end, f"the publishing connection ended: {trouble.reason}", "", for_good=True)
        self._on_down(trouble, retry_in_s)

    def _on_channel_open(self, channel: pika.channel.Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=lambda _ok: self._on_confirming(channel))

    def _on_confirming(self, channel: pika.channel.Channel) -> None:
        self._last_tag = self._seen_tag = self._asked_tag = 0
        self._channel = channel
        self.dialer.serves()
        self._send_waiting()
        self._on_ready()

    def _on_channel_closed(self, channel: pika.channel.Channel, error: BaseException) -> None:
        """The broker refused one publication; where the connection ended, `_connection_down` follows."""
        if not isinstance(error, pika.exceptions.ChannelClosedByBroker):
            return
        self._channel = None
        reason, for_good = explain(error).reason, error.reply_code == _PRECONDITION_FAILED
        self._end(End.REFUSED, f"the publishing channel was closed: {reason}", error.reply_text, for_good)
        if channel.connection.is_open:
            channel.connection.channel(on_open_callback=self._on_channel_open)

    def _on_blocked(self, _connection: pika.SelectConnection, frame: pika.frame.Method) -> None:
        self._blocked = True
        self._events.append(Blocked(frame.method.reason or "resource alarm"))

    def _on_unblocked(self, _connection: pika.SelectConnection | None, _frame: pika.frame.Method | None) -> None:
        self._blocked = False
        self._events.append(Unblocked())
        self._send_waiting()

    # ---- sending --------------------------------------------------------------------------------------------------

    def _send_waiting(self) -> None:
        """Send all publications that may be sent now: suspects first, each after confirms of all before it."""
        while self._channel is not None and not self._blocked:
            if self._suspects or self._on_trial:
                if self._last_tag > self._seen_tag:
                    self._ask_how_far(self._channel)
                    return
                if not self._drained():
                    return
                suspect = self._suspects.popleft()
                suspect.alone = True
                self._send(self._channel, suspect)
            elif self._waiting:
                self._send(self._channel, self._waiting.popleft())
            else:
                return

    @property
    def _on_trial(self) -> bool:
        last = self._sent.get(self._last_tag)
        return last is not None and last.alone and self._last_tag > self._seen_tag

    @property
    def _user(self) -> str:
        return str(self.dialer.parameters.credentials.username)

    def _drained(self) -> bool:
        """Whether a suspect may go: publications confirmed before it need no repetition if it closes the channel.

        Not waited for without end: a queue without a leader confirms nothing.
        """
        now_s = monotonic_s()
        if not self._sent or 0 < self._drained_s <= now_s:
            self._drained_s = 0.0
            return True
        if not self._drained_s:
            self._drained_s = now_s + _DRAIN_S
            self._reactor.call_later(_DRAIN_S, self._send_waiting)
        return False

    def _ask_how_far(self, channel: pika.channel.Channel) -> None:
        """A channel works in order: any answer means that it has handled all publications before it."""
        if self._asked_tag == self._last_tag:
            return
        self._asked_tag = tag = self._last_tag
        channel.basic_qos(callback=lambda _ok: self._past(channel, tag))

    def _past(self, channel: pika.channel.Channel, tag: int) -> None:
        if channel is self._channel:
            self._seen_tag = max(self._seen_tag, tag)
            if (entry := self._sent.get(tag)) is not None:
                self._taken.learn(entry.publication)
            self._send_waiting()

    def _send(self, channel: pika.channel.Channel, entry: Unconfirmed) -> None:
        publication = entry.publication
        try:
            entry.properties = fitted(publication.properties, entry.properties, channel.connection.params.frame_max)
            channel.basic_publish(
                publication.exchange,
                publication.routing_key,
                publication.body,
                entry.properties,
                mandatory=entry.mandatory,
            )
        except CANNOT_ENCODE as error:
            self._settle(entry, f"it cannot be sent: {error or type(error).__name__}", for_good=True, absent=True)
            return
        self._last_tag += 1
        self._sent[self._last_tag] = entry
        entry.sent += 1
        # fail-point: consumer.amqp-published: a publication is on its way, no confirm has come

    # ---- fates ----------------------------------------------------------------------------------------------------

    def _on_confirm(self, frame: pika.frame.Method) -> None:
        method = frame.method
        nacked = isinstance(method, pika.spec.Basic.Nack)
        for entry in self._take_confirmed(method.delivery_tag, method.multiple):
            if entry.alone:
                self._taken.learn(entry.publication)
            if entry.settled:
                continue
            if nacked:
                self._settle(entry, "the broker could not take it (nack): queue full, or its leader lost")
            else:
                # fail-point: consumer.amqp-confirmed: the broker has a publication, no row says so
                self._events.append(Confirmed(entry.token))
        self._seen_tag = max(self._seen_tag, method.delivery_tag)
        if self._suspects or self._waiting:
            self._send_waiting()

    def _take_confirmed(self, tag: int, multiple: bool) -> list[Unconfirmed]:
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
        """A publication that a Return may mean does not count as published, even with a confirm."""
        sent = [entry for entry in self._sent.values() if not entry.returned and entry.mandatory]
        found = returned(sent, method, encoded(properties), body)
        where = f"there is no queue {method.routing_key!r} ({method.reply_text})"
        if method.exchange:
            where = (
                f"no queue for exchange {method.exchange!r}, routing key {method.routing_key!r}, {method.reply_text}"
            )
        if len(found) > 1:
            where += f"; the broker has changed it on the way: it may be any of {len(found)} publications"
        for entry in found:
            entry.returned = len(found) == 1
            if not entry.settled:
                self._settle(entry, where, absent=entry.returned and entry.sent == 1, unroutable=entry.returned)

    def _settle(self, entry: Unconfirmed, reason: str, **facts: bool) -> None:
        entry.settled = True
        self.tell_unpublished(entry.token, reason, **facts)

    def _end(self, end: End, reason: str, words: str, for_good: bool) -> None:
        """The channel is gone: the publication that closed it is refused, unread ones are sent again."""
        past = [entry for tag, entry in self._sent.items() if tag <= self._seen_tag]
        unseen = [entry for tag, entry in self._sent.items() if tag > self._seen_tag]
        self._sent.clear()
        self._taken = Taken()
        self._drained_s = 0.0
        found = sentence(end, words, unseen)
        again, lost = found.again, found.lost
        if end is End.LOST:
            self._losses = {entry.token: entry.losses + 1 for entry in _unsettled(lost)}
            lost = past + lost
        else:
            again = sorted(past + again, key=lambda entry: entry.due_s)
        self._suspects.extendleft(reversed(_unsettled(found.alone)))
        self._waiting.extendleft(reversed(_unsettled(again)))
        for entry in _unsettled(found.over_limit):
            self._settle(entry, reason, for_good=for_good, absent=end is End.REFUSED)
        for entry in _unsettled(lost):
            self._settle(entry, reason, lost=True)

    def _give_up_overdue(self) -> None:
        """Check deadlines, which rise in the order of publishing, at the heads of the queues."""
        now_s = monotonic_s()
        self._deadline = None
        for waiting in (self._suspects, self._waiting):
            while waiting and waiting[0].due_s <= now_s:
                entry = waiting.popleft()
                self._settle(entry, f"it could not be sent within {self._timeout_s:g} s", absent=not entry.sent)
        open_entries = _unsettled(self._sent.values())
        for entry in open_entries:
            if entry.due_s <= now_s:
                self._settle(entry, f"the broker did not confirm it within {self._timeout_s:g} s")
        still = _unsettled((*open_entries, *self._suspects, *self._waiting))
        due_s = min((entry.due_s for entry in still), default=None)
        if due_s is not None:
            self._deadline = self._reactor.call_later(due_s - now_s, self._give_up_overdue)


def _unsettled(entries: Iterable[Unconfirmed]) -> list[Unconfirmed]:
    return [entry for entry in entries if not entry.settled]


_PRECONDITION_FAILED = 406
"""Reply codes for a publication that RabbitMQ never accepts: too large, an invalid property."""

_DRAIN_S = 1.0
"""How long a suspect waits until everything before it is confirmed."""
