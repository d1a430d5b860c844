"""RabbitMQ for a program that only publishes: one connection with publisher confirms, and delay queues on demand.

Runs in a client's thread. It is the daemon's own `Publisher` on a reactor in that thread: no second implementation of
confirms, returns, alarms and bad publications. After a refusal of the login it tries again, as a password or a right
is changed at the broker more easily than a web application is restarted. It must never configure logging.
"""

from __future__ import annotations

from collections import deque

import pika

from supervisor.brokers.amqp.connection import BrokerHost, targets
from supervisor.brokers.amqp.delays import DelayQueues
from supervisor.brokers.amqp.errors import Trouble
from supervisor.brokers.amqp.publisher import Publisher
from supervisor.brokers.base import BrokerEvent, Connected, Disconnected, Fatal, Outgoing, Unpublished
from supervisor.brokers.producer import Producer
from supervisor.config.schema import BrokerConfig
from supervisor.errors import BrokerRefused
from supervisor.messages.message import Publication
from supervisor.system.reactor import Reactor, Timer

LONGEST_S = 86_400.0
"""How long a publication without a time limit of its own waits for its confirm, on a connection that lives."""


class AmqpProducer(Producer):
    """A Publisher and its delay queues. `name`: shown at the broker."""

    def __init__(self, config: BrokerConfig, name: str, reactor: Reactor) -> None:
        self.events: deque[BrokerEvent] = deque()
        self._config = config
        self._name = name
        self._reactor = reactor
        self._publisher = Publisher(reactor, self.events, LONGEST_S, self._ready, self._down)
        self._hosts: list[BrokerHost] = []
        self._delays: DelayQueues | None = None
        self._delayed_on: pika.SelectConnection | None = None
        self._refusals: deque[str] = deque(maxlen=len(config.urls))  # of the last attempts, one for each host
        self._again: Timer | None = None
        self._closing = False

    def start(self) -> None:
        user_timeout_s = max(2 * self._config.heartbeat_s, self._config.blocked_timeout_s)
        try:
            self._hosts = targets(self._config, self._name, user_timeout_s)
        except BrokerRefused as error:
            self.events.append(Fatal(str(error)))
            return
        self._publisher.dialer.dial(self._hosts)

    def publish(self, outgoing: Outgoing) -> None:
        if outgoing.delay_s > 0:
            self._publish_later(outgoing)
            return
        publication = Publication(outgoing.exchange, outgoing.routing_key, outgoing.properties, outgoing.body)
        self._publisher.publish(outgoing.token, publication)

    def flush(self) -> None:
        """Nothing: the reactor writes."""

    def close(self) -> None:
        self._closing = True
        if self._again is not None:
            self._reactor.remove_timeout(self._again)
        self._publisher.close()

    def cut(self) -> None:
        self._publisher.dialer.cut("closed on purpose")

    @property
    def closed(self) -> bool:
        return self._publisher.dialer.closed

    def _publish_later(self, outgoing: Outgoing) -> None:
        connection = self._publisher.dialer.connection
        if connection is None or not connection.is_open:
            self.events.append(Unpublished(outgoing.token, "the connection ended", lost=True))
            return
        if self._delays is None or self._delayed_on is not connection:
            self._delays, self._delayed_on = DelayQueues(self._reactor, connection, self._publisher), connection
        self._delays.publish(outgoing)

    def _ready(self) -> None:
        self._refusals.clear()
        self.events.append(Connected(self._publisher.dialer.host))

    def _down(self, trouble: Trouble, retry_in_s: float) -> None:
        """A refusal counts once each host of the list has been tried since the last success."""
        if self._delays is not None:
            self._delays.close()
            self._delays = self._delayed_on = None
        if self._closing:
            return
        host, reason = self._publisher.dialer.host, trouble.reason
        self._refusals.append(f"{host}: {reason}" if trouble.fatal else "")
        refused = [refusal for refusal in self._refusals if refusal]
        if refused and len(self._refusals) == len(self._hosts):
            self.events.append(Fatal(f"{'; '.join(refused)}; the next attempt follows in {retry_in_s:.1f} s"))
        else:
            self.events.append(Disconnected(reason, host, retry_in_s))
        if trouble.fatal:
            self._again = self._reactor.call_later(retry_in_s, lambda: self._publisher.dialer.dial(self._hosts))
