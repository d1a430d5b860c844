"""Queries to RabbitMQ on their own channels: the depth of a queue, whether it is a stream, the right to publish.

Runs in the consumer. Never on the consuming channel: an answer may close the channel of its query.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from uuid import uuid4

import pika
import pika.channel
import pika.exceptions
import pika.frame
import pika.spec

from supervisor.brokers.amqp.errors import Trouble, explain
from supervisor.brokers.base import Depth, Held, Unresponsive
from supervisor.system.reactor import Reactor, Timer

TIMEOUT_S = 5.0
"""A queue without an answer to a depth query for so long is unresponsive."""


class Probe:
    """Asks for the depth of a pool's queue and of delay queues, one question at a time; answers go to `report`."""

    def __init__(self, reactor: Reactor, queue: str, report: Callable[[Depth | Held | Unresponsive], object]) -> None:
        self._reactor = reactor
        self._queue = queue
        self._report = report
        self._connection: pika.SelectConnection | None = None
        self._channel: pika.channel.Channel | None = None
        self._open: deque[str] = deque()  # queues whose answer is still to come
        self._timer: Timer | None = None

    def ask(self, connection: pika.SelectConnection | None, delay_queues: Sequence[str] = ()) -> None:
        """Query the depths of the queue and of `delay_queues`; a `connection` of None counts as no answer."""
        if self._timer is not None:
            return
        self._timer = self._reactor.call_later(TIMEOUT_S, self._give_up)
        self._connection = connection
        self._open = deque((self._queue, *delay_queues))
        self._next()

    def close(self) -> None:
        """Drop open queries."""
        self._open.clear()
        if self._timer is not None:
            self._reactor.remove_timeout(self._timer)
            self._timer = None

    def _next(self) -> None:
        if not self._open:
            self.close()
        elif self._channel is not None and self._channel.is_open:
            self._declare(self._channel)
        elif self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=self._on_open)

    def _give_up(self) -> None:
        """Give up a query and its channel, so that a late answer is not taken for that of a later query."""
        unanswered = self._open[0] if self._open else ""
        self.close()
        channel, self._channel = self._channel, None
        if channel is not None and channel.is_open:
            channel.close()
        if unanswered == self._queue:
            self._report(Unresponsive(TIMEOUT_S))

    def _on_open(self, channel: pika.channel.Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_closed)
        if self._open:
            self._declare(channel)

    def _declare(self, channel: pika.channel.Channel) -> None:
        channel.queue_declare(self._open[0], passive=True, callback=self._on_declared)

    def _on_declared(self, frame: pika.frame.Method) -> None:
        if not self._open or frame.method.queue != self._open[0]:
            return
        queue = self._open.popleft()
        ready = frame.method.message_count
        self._report(Depth(ready, frame.method.consumer_count) if queue == self._queue else Held(queue, ready))
        self._next()

    def _on_closed(self, channel: pika.channel.Channel, error: BaseException) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        if not isinstance(error, pika.exceptions.ChannelClosedByBroker) or not self._open:
            return
        queue = self._open.popleft()
        if error.reply_code == 404:  # a queue that is gone holds nothing; its subscription is told of the deletion
            self._report(Depth(0, 0) if queue == self._queue else Held(queue, None))
        self._next()


def rule_out_stream(connection: pika.SelectConnection, queue: str, ruled_out: Callable[[], object]) -> None:
    """Call `ruled_out()` if `queue` is no stream, which no method of AMQP 0-9-1 tells directly.

    basic.get is the one that streams refuse: with 540, which ends the connection. Any other queue may hand out a
    message, which is returned at once; so this is asked only where a delivery looked like one of a stream.
    """

    def on_open(channel: pika.channel.Channel) -> None:
        channel.add_on_close_callback(lambda _channel, error: on_closed(error))
        channel.add_callback(lambda _frame: channel.close(), [pika.spec.Basic.GetEmpty])
        channel.basic_get(queue, callback=on_message)

    def on_message(
        channel: pika.channel.Channel, method: pika.spec.Basic.GetOk, _properties: object, _body: bytes
    ) -> None:
        channel.basic_nack(method.delivery_tag, requeue=True)
        channel.close()

    def on_closed(error: BaseException) -> None:
        if isinstance(error, pika.exceptions.ChannelClosed):  # by us, or refused for other reasons than a stream's
            ruled_out()

    connection.channel(on_open_callback=on_open)


def ask_to_publish(connection: pika.SelectConnection, done: Callable[[Trouble | None], object]) -> None:
    """Check the right to write to the default exchange, which all copies need; `done(None)` if it may be written to.

    A mandatory message to a queue that cannot exist is returned (basic.return) if publishing is allowed. `done` is not
    called if the connection is lost meanwhile.
    """

    def on_open(channel: pika.channel.Channel) -> None:
        channel.add_on_close_callback(lambda _channel, error: on_closed(error))
        channel.add_on_return_callback(lambda *_returned: channel.close())
        channel.basic_publish("", f"preforkd.asks.{uuid4()}", b"", mandatory=True)

    def on_closed(error: BaseException) -> None:
        if isinstance(error, pika.exceptions.ChannelClosedByClient):
            done(None)
        elif isinstance(error, pika.exceptions.ChannelClosedByBroker):
            done(explain(error))

    connection.channel(on_open_callback=on_open)
