"""RabbitMQ for the command line: publish with pipelined confirms, look into queues, move and drop messages.

Runs in the command line only; it blocks. Looking uses pika's BlockingConnection; publishing goes through the daemon's
own Publisher on a Reactor of its own, since BlockingConnection waits for every single confirm (about 600 a second).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

from supervisor.brokers.admin import BrokerAdmin, BrokerFacts, PoolReview, PublishReport
from supervisor.brokers.amqp.connection import BrokerHost, silence_pika, targets
from supervisor.brokers.amqp.errors import Trouble, explain
from supervisor.brokers.amqp.messages import encode, fitted, to_properties
from supervisor.brokers.amqp.pika_check import receiving_way
from supervisor.brokers.amqp.publisher import Publisher
from supervisor.brokers.amqp.queues import QUORUM
from supervisor.brokers.amqp.review import Reviewer
from supervisor.brokers.base import BrokerEvent, Confirmed, Delivery, Depth, Unpublished
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.errors import BrokerRefused, BrokerUnavailable, PreforkdError
from supervisor.messages.message import Publication
from supervisor.system.reactor import Reactor

_NAME, _PUBLISHING = "preforkd command line", "preforkd publish"
_HEARTBEAT_S = 60
"""Long, because a command answers no heartbeats while a person reads its output."""

_DEFAULT_ACK_TIMEOUT_S = 1800.0
_CLOSE_S = 5.0


class AmqpAdmin(BrokerAdmin):
    """One blocking connection; `publish` opens a second one while it runs."""

    def __init__(self, broker: BrokerConfig) -> None:
        self._config = broker
        silence_pika()
        self._targets = targets(broker, _NAME, max(_HEARTBEAT_S * 2.0, broker.blocked_timeout_s))
        for target in self._targets:
            target.parameters.heartbeat = max(_HEARTBEAT_S, round(broker.heartbeat_s))
        self._target, self._connection = _connect(self._targets)
        with _translated(self._target.host):
            self._holding = self._connection.channel()
            self._moving: BlockingChannel | None = None

    def publish(
        self, messages: Iterable[Publication], window: int, on_confirmed: Callable[[int], None]
    ) -> PublishReport:
        timeout_s = self._config.blocked_timeout_s
        candidates = targets(self._config, _PUBLISHING, max(_HEARTBEAT_S * 2.0, timeout_s))
        same = next(target for target in candidates if target.host == self._target.host)
        return _PublishRun(same, timeout_s, on_confirmed).run(messages, window)

    def depth(self, queue: str) -> Depth | None:
        """The depth of a queue, by a passive declare. Raises BrokerRefused and BrokerUnavailable."""
        with _translated(self._target.host), self._connection.channel() as channel:
            try:
                counts = channel.queue_declare(queue, passive=True).method
            except pika.exceptions.ChannelClosedByBroker as error:
                if error.reply_code != 404:
                    raise
                return None
        return Depth(counts.message_count, counts.consumer_count)

    def take(self, queue: str, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        with _translated(self._target.host):
            while len(taken) < limit:
                method, properties, body = self._holding.basic_get(queue)
                if method is None:
                    break
                where = (method.delivery_tag, method.exchange, method.routing_key, method.redelivered)
                taken.append(Delivery(0, *where, to_properties(properties), body))
        return taken

    def drop(self, delivery: Delivery) -> None:
        with _translated(self._target.host):
            self._holding.basic_ack(delivery.tag)

    def move(self, delivery: Delivery, publication: Publication) -> None:
        frame_max = self._connection._impl.params.frame_max  # as both sides have agreed; pika shows it nowhere else
        with _translated(self._target.host, final=BrokerUnavailable):
            self._confirm_channel().basic_publish(
                publication.exchange,
                publication.routing_key,
                publication.body,
                fitted(publication.properties, encode(publication.properties), frame_max),
                mandatory=True,
            )
            self._holding.basic_ack(delivery.tag)

    def requeue_all(self) -> None:
        with _translated(self._target.host):
            self._holding.basic_nack(0, multiple=True, requeue=True)  # 0: everything that is unsettled

    def ensure_queue(self, queue: str) -> None:
        if self.depth(queue) is None:
            with _translated(self._target.host), self._connection.channel() as channel:
                channel.queue_declare(queue, durable=True, arguments=QUORUM)

    def delete_queue(self, queue: str) -> None:
        with _translated(self._target.host), self._connection.channel() as channel:
            channel.queue_delete(queue)

    def facts(self, queue: str) -> BrokerFacts:
        properties = self._connection._impl.server_properties  # pika shows them nowhere else
        version = str(properties.get("version", "unknown"))
        return BrokerFacts(
            server=f"{properties.get('product', 'AMQP server')} {version} at {self._target.host}",
            remarks=[
                *self._queue_remarks(queue, version),
                *self._timeout_remarks(),
                *filter(None, [receiving_way().reason]),
            ],
        )

    def review(self, pool: PoolConfig, pools: Sequence[PoolConfig]) -> PoolReview:
        with _translated(self._target.host):
            return Reviewer(self._connection, self._target.parameters, pools).review(pool)

    def close(self) -> None:
        with suppress(pika.exceptions.AMQPError):  # closed by the broker already: nothing is left to say
            self._connection.close()

    def _confirm_channel(self) -> BlockingChannel:
        if self._moving is None or not self._moving.is_open:
            self._moving = self._connection.channel()
            self._moving.confirm_delivery()
        return self._moving

    def _queue_remarks(self, queue: str, version: str) -> list[str]:
        if self.depth(queue) is None:
            return [f"queue {queue!r} does not exist yet: it is declared at the first start, unless declare = false"]
        remarks = []
        if version.split(".")[0].isdigit() and int(version.split(".")[0]) >= 4:
            remarks.append(
                f"if queue {queue!r} is a quorum queue that preforkd did not declare: RabbitMQ 4 drops a message after"
                " 20 returns; preforkd puts a copy in its place before (message.saved); to be safe set delivery-limit"
                " by policy (rabbitmqctl set_policy) or give it a dead-letter exchange"
            )
        return remarks

    def _timeout_remarks(self) -> list[str]:
        if self._config.ack_timeout_s <= _DEFAULT_ACK_TIMEOUT_S:
            return []
        return [
            f"[broker] ack_timeout is {self._config.ack_timeout_s:g} s, RabbitMQ's default is"
            f" {_DEFAULT_ACK_TIMEOUT_S:g} s:"
            " raise consumer_timeout in rabbitmq.conf to the same, or longer handlers will lose their message"
        ]


def _connect(candidates: list[BrokerHost]) -> tuple[BrokerHost, pika.BlockingConnection]:
    troubles: list[tuple[str, Trouble]] = []
    for target in candidates:
        try:
            return target, pika.BlockingConnection(target.parameters)
        except (pika.exceptions.AMQPError, OSError) as error:
            troubles.append((target.host, explain(error)))
    text = "; ".join(f"{host}: {trouble.reason}" for host, trouble in troubles)
    if any(trouble.fatal for _host, trouble in troubles):
        raise BrokerRefused(f"RabbitMQ refuses: {text}")
    raise BrokerUnavailable(f"RabbitMQ cannot be reached: {text}")


@contextmanager
def _translated(host: str, final: type[PreforkdError] = BrokerRefused) -> Iterator[None]:
    """Errors of pika as errors for users; what waiting will not heal is raised as `final`."""
    try:
        yield
    except pika.exceptions.UnroutableError as error:
        raise BrokerUnavailable(f"{host}: the message reaches no queue; it was not moved") from error
    except pika.exceptions.NackError as error:
        raise BrokerUnavailable(f"{host}: the broker could not take the message; it was not moved") from error
    except pika.exceptions.AMQPError as error:
        trouble = explain(error)
        kind = final if trouble.fatal else BrokerUnavailable
        raise kind(f"{host}: {trouble.reason}") from error


class _PublishRun:
    """One `publish`: at most `window` unconfirmed, until all are or the connection is lost."""

    def __init__(self, target: BrokerHost, timeout_s: float, on_confirmed: Callable[[int], None]) -> None:
        self._on_confirmed = on_confirmed
        self._reactor = Reactor()
        self._events: deque[BrokerEvent] = deque()
        self._publisher = Publisher(self._reactor, self._events, timeout_s, lambda: None, self._down)
        self._target = target
        self._outstanding: set[int] = set()
        self._sent = 0
        self._failed: list[tuple[int, str]] = []
        self._absent: set[int] = set()
        self._lost: Trouble | None = None

    def run(self, messages: Iterable[Publication], window: int) -> PublishReport:
        """Publish all; raises BrokerRefused or BrokerUnavailable when the connection does not come about."""
        try:
            self._open()
            for index, publication in enumerate(messages):
                self._turn_while(lambda: len(self._outstanding) >= window)
                if self._lost:
                    self._failed.append((index, f"not sent, nor any message after it: {self._lost.reason}"))
                    self._absent.add(index)
                    break
                self._outstanding.add(index)
                self._publisher.publish(index, publication)
            self._turn_while(lambda: bool(self._outstanding))
            if self._lost:
                self._failed += [(index, f"not confirmed: {self._lost.reason}") for index in self._outstanding]
        finally:
            self._close()
        return PublishReport(self._sent, sorted(self._failed), frozenset(self._absent))

    def _open(self) -> None:
        self._publisher.dialer.dial([self._target])
        self._turn_while(lambda: not self._publisher.connected)
        if self._lost:
            kind = BrokerRefused if self._lost.fatal else BrokerUnavailable
            raise kind(f"{self._target.host}: {self._lost.reason}")

    def _turn_while(self, condition: Callable[[], bool]) -> None:
        self._hear()
        while condition() and self._lost is None:
            self._reactor.poll()
            self._hear()

    def _hear(self) -> None:
        """Take what the publisher has told. During an alarm (Blocked) the deadline of each publication counts on."""
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Confirmed):
                self._outstanding.discard(event.token)
                self._sent += 1
                self._on_confirmed(self._sent)
            elif isinstance(event, Unpublished):
                self._outstanding.discard(event.token)
                self._failed.append((event.token, event.reason))
                if event.absent:
                    self._absent.add(event.token)

    def _down(self, trouble: Trouble, retry_in_s: float) -> None:
        """A lost connection ends the run. One that a publication has crashed does not: the publisher finds which."""
        if trouble.fatal or not trouble.is_crash:
            self._lost = trouble

    def _close(self) -> None:
        self._reactor.call_later(_CLOSE_S, lambda: self._publisher.dialer.cut("no answer to the close"))
        self._publisher.close()
        while not self._publisher.dialer.closed:
            self._reactor.poll()
        self._reactor.close()
