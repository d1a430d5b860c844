"""Queries to RabbitMQ on channels of their own: the depth of a queue, whether it is a stream, the right to publish.

Runs in the consumer. Never on the consuming channel: an answer may close the channel of its query.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any
from uuid import uuid4

import pika
import pika.channel
import pika.exceptions
import pika.spec

from supervisor.brokers.amqp.errors import Trouble, explain
from supervisor.brokers.base import Depth, Held, Unresponsive
from supervisor.system.reactor import Reactor, Timer

TIMEOUT_S = 5.0
"""A queue without an answer to a depth query for so long is unresponsive."""

Refusal = pika.exceptions.ChannelClosedByBroker
Question = Callable[[pika.channel.Channel, Callable[[Any], object]], object]
"""`(channel, answer)`: ask on the channel; `answer` is called with the broker's frame."""

Questions = Generator[Question, Any, Any]
"""Yields questions, is sent each one's answer (the broker's frame, or the Refusal), and returns a result."""


def declare(queue: str, **arguments: Any) -> Question:
    """A question that is a queue.declare; `arguments`: as pika's."""
    return lambda channel, answer: channel.queue_declare(queue, callback=answer, **arguments)


class QueryChannel:
    """Asks one question after the other over `connection`, on a channel that is opened again after each refusal."""

    def __init__(self, connection: pika.SelectConnection) -> None:
        self.connection = connection
        self._channel: pika.channel.Channel | None = None
        self._waiting: deque[tuple[Questions, Callable[[Any], object]]] = deque()
        self._question: Question | None = None

    def ask(self, questions: Questions, done: Callable[[Any], object]) -> None:
        """Ask all `questions` after those before them, then call `done` with their result.

        Nothing is called when the connection is lost meanwhile.
        """
        self._waiting.append((questions, done))
        if len(self._waiting) == 1:
            self._go_on(None)

    def close(self) -> None:
        """Drop all questions and close the channel; a late answer has no effect."""
        self._waiting.clear()
        if self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _go_on(self, answer: Any) -> None:
        """Pass on the `answer` to the last question, and ask the next."""
        if not self._waiting:
            return
        questions, done = self._waiting[0]
        try:
            self._question = questions.send(answer)
        except StopIteration as end:
            self._waiting.popleft()
            self._go_on(None)
            done(end.value)
            return
        if self._channel is not None and self._channel.is_open:
            self._question(self._channel, self._go_on)
        else:
            self.connection.channel(on_open_callback=self._on_open)

    def _on_open(self, channel: pika.channel.Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_closed)
        if self._waiting and self._question is not None:
            self._question(channel, self._go_on)

    def _on_closed(self, _channel: pika.channel.Channel, error: BaseException) -> None:
        self._channel = None
        if isinstance(error, Refusal):
            self._go_on(error)


class Probe:
    """Asks for the depth of a pool's queue and of delay queues, one question at a time; answers go to `report`."""

    def __init__(self, reactor: Reactor, queue: str, report: Callable[[Depth | Held | Unresponsive], object]) -> None:
        self._reactor = reactor
        self._queue = queue
        self._report = report
        self._channel: QueryChannel | None = None
        self._depth_is_open = False
        self._timer: Timer | None = None

    def ask(self, connection: pika.SelectConnection | None, delay_queues: Sequence[str] = ()) -> None:
        """Query the depths of the queue and of `delay_queues`; a `connection` of None counts as no answer."""
        if self._timer is not None:
            return
        self._timer = self._reactor.call_later(TIMEOUT_S, self._give_up)
        self._depth_is_open = True
        if connection is not None and connection.is_open:
            if self._channel is None or self._channel.connection is not connection:
                self._channel = QueryChannel(connection)
            self._channel.ask(self._depths(delay_queues), lambda _none: self._stop_waiting())

    def close(self) -> None:
        """Drop open queries."""
        self._stop_waiting()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._reactor.remove_timeout(self._timer)
            self._timer = None

    def _give_up(self) -> None:
        """Give up a query and its channel, so that a late answer is not taken for that of a later query."""
        self.close()
        if self._depth_is_open:
            self._report(Unresponsive(TIMEOUT_S))

    def _depths(self, delay_queues: Sequence[str]) -> Questions:
        for queue in (self._queue, *delay_queues):
            answer = yield declare(queue, passive=True)
            self._depth_is_open = False
            if isinstance(answer, Refusal) and answer.reply_code != 404:
                continue
            # A queue that is gone holds nothing; its subscription is told of the deletion.
            counts = None if isinstance(answer, Refusal) else answer.method
            if queue == self._queue:
                self._report(Depth(counts.message_count, counts.consumer_count) if counts else Depth(0, 0))
            else:
                self._report(Held(queue, counts.message_count if counts else None))


def rule_out_stream(connection: pika.SelectConnection, queue: str, ruled_out: Callable[[], object]) -> None:
    """Call `ruled_out()` if `queue` is no stream, which no method of AMQP 0-9-1 tells directly.

    basic.get is the one that streams refuse: with 540, which ends the connection. Any other queue may hand out a
    message, which is returned at once; so this is asked only where a delivery looked like one of a stream.
    """

    def get(channel: pika.channel.Channel, answer: Callable[[Any], object]) -> None:
        def requeue(_channel: object, method: pika.spec.Basic.GetOk, _properties: object, _body: bytes) -> None:
            channel.basic_nack(method.delivery_tag, requeue=True)
            answer(method)

        channel.add_callback(answer, [pika.spec.Basic.GetEmpty])
        channel.basic_get(queue, callback=requeue)

    _ask_once(connection, get, lambda _answer: ruled_out())  # a refusal has other reasons than a stream's


def ask_to_publish(connection: pika.SelectConnection, done: Callable[[Trouble | None], object]) -> None:
    """Check the right to write to the default exchange, which all copies need; `done(None)` if it may be written to.

    A mandatory message to a queue that cannot exist is returned (basic.return) if publishing is allowed. `done` is not
    called if the connection is lost meanwhile.
    """

    def publish(channel: pika.channel.Channel, answer: Callable[[Any], object]) -> None:
        channel.add_on_return_callback(lambda *_returned: answer(None))
        channel.basic_publish("", f"preforkd.asks.{uuid4()}", b"", mandatory=True)

    _ask_once(connection, publish, lambda answer: done(explain(answer) if isinstance(answer, Refusal) else None))


def _ask_once(connection: pika.SelectConnection, question: Question, done: Callable[[Any], object]) -> None:
    """Ask one question on a channel of its own, and call `done` with the answer."""
    channel = QueryChannel(connection)

    def questions() -> Questions:
        return (yield question)

    def answered(answer: Any) -> None:
        channel.close()
        done(answer)

    channel.ask(questions(), answered)
