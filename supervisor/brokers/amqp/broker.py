"""RabbitMQ as a Broker: one connection that consumes and acks, one that publishes, both on the consumer's Reactor.

Runs in the consumer process only; the command line uses `admin.py`. An epoch is one consuming channel. It ends
when that channel or its connection does; the publishing connection comes and goes without touching it, and fates of
publications outlive it. This file decides what follows what; the parts are in the files beside it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pika

from supervisor.brokers.amqp.connection import Backoff, Dialer, silence_pika, targets
from supervisor.brokers.amqp.copy_queues import CopyQueues
from supervisor.brokers.amqp.declarer import Declarer, Permit, QueueFindings
from supervisor.brokers.amqp.errors import Trouble, explain, with_command
from supervisor.brokers.amqp.pika_check import receiving_way
from supervisor.brokers.amqp.publisher import Publisher
from supervisor.brokers.amqp.questions import Probe, ask_to_publish, rule_out_stream
from supervisor.brokers.amqp.queues import QUORUM_TYPE, pool_queues
from supervisor.brokers.amqp.rivals import AGAIN_S, Rivals
from supervisor.brokers.amqp.subscription import Subscription
from supervisor.brokers.base import (
    Broker,
    BrokerEvent,
    Cancelled,
    Connected,
    Delivery,
    Depth,
    Disconnected,
    Fatal,
    Held,
    Outgoing,
    Subscribed,
    Unpublished,
    Unresponsive,
)
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.errors import BrokerRefused
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor, Timer

_STREAM_HEADER = "x-stream-offset"
"""RabbitMQ sets it on every delivery of a stream, and nowhere else; but publishers may set any header."""

_MAY_PUBLISH_S = 2.0
_CHANNELS = 4
"""The consuming connection has channels for queues, deliveries, depths, and now and then for one more question."""

STANDBY_S = 10.0
"""How long a consumer waits at most before it looks again whether the queue has another consumer."""


class AmqpBroker(Broker):
    """One pool's two connections to RabbitMQ."""

    def __init__(self, pool: PoolConfig, broker: BrokerConfig, state_dir: str, reactor: Reactor) -> None:
        self.events: deque[BrokerEvent] = deque()
        self._pool = pool
        self._config = broker
        self._reactor = reactor
        self._consuming = Dialer(reactor, self._connection_up, self._connection_down)
        self._publisher = Publisher(
            reactor, self.events, broker.blocked_timeout_s, self._publisher_ready, self._publisher_down
        )
        self._probe = Probe(reactor, pool.queue, self._probed)
        self._declarer: Declarer | None = None
        self._copy_queues: CopyQueues | None = None
        self._permit = Permit(reactor, Path(state_dir))
        self._findings = QueueFindings(pool.queue, self.events.append)
        self._queues_ready = False
        self._may_publish = False
        self._subscription: Subscription | None = None
        self._most: int | None = None  # deliveries that may be out, if fewer than the pool says
        self._wanted = True
        self._stands_by = False  # the queue had another consumer at the last look
        self._epoch = 0
        self._backoff = Backoff()
        self._retry: Timer | None = None
        self._stream_ruled_out = False
        self._over = False  # closing, or refused for good

    # ---- calls of the consumer ------------------------------------------------------------------------------------

    def start(self) -> None:
        heartbeats_s = 2 * self._config.heartbeat_s
        publish_timeout_s = max(heartbeats_s, self._config.blocked_timeout_s)
        name = self._pool.name
        silence_pika()
        try:
            if reason := receiving_way().reason:
                log(Event.CONSUMER_SLOWER, reason, level=logging.WARNING)
            consuming = targets(self._config, f"preforkd consumer {name}", heartbeats_s)
            publishing = targets(self._config, f"preforkd publisher {name}", publish_timeout_s)
        except BrokerRefused as error:
            self._refuse(str(error))
            return
        self._consuming.dial(consuming)
        self._publisher.dialer.dial(publishing)

    def subscribe(self) -> None:
        self._wanted = True
        if self._subscription is None:
            return
        if self._queues_ready or self._declarer is None:
            self._subscription.want(True)
        else:
            self._set_up()

    def cancel(self) -> None:
        self._wanted = False
        if self._subscription is None or self._subscription.idle:
            self.events.append(Cancelled(""))
        if self._subscription is not None:
            self._subscription.want(False)

    def ack(self, epoch: int, tag: int) -> None:
        if self._subscription is not None and self._subscription.epoch == epoch:
            self._subscription.acks.ack(tag)

    def requeue(self, epoch: int, tag: int) -> None:
        if self._subscription is not None and self._subscription.epoch == epoch:
            self._subscription.acks.requeue(tag)

    def narrow(self, most: int | None) -> None:
        widens = most is None and self._most is not None
        self._most = most
        if widens and self._subscription is not None:
            self._subscription.widen()

    def set_aside(self, tags: Sequence[tuple[int, int]]) -> None:
        if self._subscription is not None:
            self._subscription.set_aside(tags)

    def publish(self, outgoing: Outgoing) -> None:
        if self._copy_queues is not None:
            self._copy_queues.publish(outgoing)
        else:
            self.events.append(Unpublished(outgoing.token, "there is no connection to the broker", lost=True))

    def flush(self) -> None:
        if self._subscription is not None:
            self._subscription.flush()

    def probe(self, delay_queues: Sequence[str] = ()) -> None:
        self._probe.ask(self._consuming.connection, delay_queues)

    def cut(self) -> None:
        self._publisher.dialer.cut("cut on purpose")
        self._consuming.cut("cut on purpose")

    def close(self, timeout_s: float) -> None:
        self._reactor.call_later(timeout_s, self._hang_up)
        if self._over:
            return
        self._over = True
        self._probe.close()
        self._forget_retry()
        if self._subscription is None or self._subscription.idle:
            self._say_goodbye()
        else:
            self._subscription.want(False)

    @property
    def closed(self) -> bool:
        return self._consuming.closed and self._publisher.dialer.closed

    @property
    def silent_s(self) -> float:
        return self._consuming.silent_s

    @property
    def connections_opened(self) -> int:
        return self._consuming.opened + self._publisher.dialer.opened

    # ---- the consuming connection ---------------------------------------------------------------------------------

    def _connection_up(self, connection: pika.SelectConnection) -> None:
        """See to the queues."""
        channels = connection.params.channel_max
        if 0 < channels < _CHANNELS:
            allowed = (
                f"the broker allows {channels} channel(s) on a connection (channel_max), a consumer needs {_CHANNELS}"
            )
            self._refuse(f"{self._consuming.host}: {allowed}")
            return
        self._declarer = Declarer(connection, self._permit, self._findings, self._with_command)
        self._copy_queues = CopyQueues(self._pool.queue, self._declarer, self._publisher)
        self._set_up()

    def _connection_down(self, trouble: Trouble, retry_in_s: float) -> None:
        if self._declarer is not None and self._copy_queues is not None:
            self._declarer.close()
            self._copy_queues.close()
        self._declarer = self._copy_queues = None
        self._forget_retry()
        self._end_epoch(trouble, retry_in_s)

    def _set_up(self) -> None:
        self._retry = None
        if self._declarer is not None and not self._over:
            self._declarer.ensure(pool_queues(self._pool), self._on_queues)

    def _on_queues(self, trouble: Trouble | None) -> None:
        if trouble is not None:
            self._restart_epoch(trouble)
            return
        self._queues_ready = True
        if self._subscription is None:
            self._begin_epoch()
        else:
            self._subscription.want(self._wanted)

    def _with_command(self, trouble: Trouble) -> Trouble:
        return with_command(trouble, self._consuming.parameters, self._pool)

    def _begin_epoch(self) -> None:
        """Once both connections are up, the queues are there and copies may be published, whichever is last."""
        ready = self._queues_ready and self._may_publish and self._publisher.connected
        if not ready or self._over or self._subscription is not None:
            return
        self._epoch += 1
        self._backoff.up(monotonic_s())
        self.events.append(Connected(self._consuming.host))
        if not self._wanted:
            self._findings.tell()
        self._subscription = Subscription(
            self._reactor,
            self._consuming.connection,
            self._pool,
            self._epoch,
            self._delivered,
            self._subscribed,
            self._subscription_ended,
            self._channel_closed,
        )
        self._subscription.prefetch = min(self._pool.prefetch, self._most or self._pool.prefetch)
        self._subscription.wanted = self._wanted
        if self._pool.exclusive and self._declarer is not None:
            self._subscription.rivals = Rivals(
                self._reactor,
                self._declarer.channel,
                self._pool.queue,
                lambda: self._findings.type == QUORUM_TYPE,
                AGAIN_S if self._stands_by else 0.0,
            )

    def _end_epoch(self, trouble: Trouble, retry_in_s: float) -> None:
        """All delivery tags end. The deadlines of publications do not count while there is no broker."""
        if self._subscription is not None:
            self._backoff.down(monotonic_s())
        self._subscription = None
        self._queues_ready = False
        if self._over:
            return
        self._publisher.restart_deadlines()
        if trouble.fatal:
            self._refuse(f"{self._consuming.host}: {trouble.reason}")
        else:
            self.events.append(Disconnected(trouble.reason, self._consuming.host, retry_in_s))

    def _restart_epoch(self, trouble: Trouble) -> None:
        """The connection lives, the channel or a queue does not: try again on the same connection."""
        self._stands_by = trouble.taken
        retry_in_s = self._backoff.next_s(STANDBY_S) if trouble.taken else self._backoff.next_s()
        self._end_epoch(trouble, retry_in_s)
        if not self._over:
            self._retry = self._reactor.call_later(retry_in_s, self._set_up)

    # ---- the consuming channel ------------------------------------------------------------------------------------

    def _delivered(self, delivery: Delivery) -> None:
        """A message, unless it might be a stream's."""
        headers = delivery.properties.headers
        if headers and _STREAM_HEADER in headers and not self._stream_ruled_out:
            self._suspect_stream(delivery)
        else:
            self.events.append(delivery)

    def _subscribed(self) -> None:
        self._stands_by = False
        self._backoff.serves(monotonic_s())
        self._consuming.serves()
        self.events.append(Subscribed(self._epoch))
        self._findings.tell()

    def _subscription_ended(self, reason: str, by_broker: bool) -> None:
        """The subscription was cancelled; after a cancel by the broker the queues are checked again."""
        if by_broker:
            self._wanted = self._queues_ready = False
            self._findings.forget()
        self.events.append(Cancelled(reason))
        if self._over:
            self._say_goodbye()

    def _channel_closed(self, error: BaseException) -> None:
        """The epoch is over; where its connection ended too, `_connection_down` follows."""
        connection = self._consuming.connection
        if connection is not None and connection.is_open:
            self._restart_epoch(self._with_command(explain(error)))

    def _suspect_stream(self, delivery: Delivery) -> None:
        """A stream's messages cannot be settled, so nothing may run before it is known. The message comes again."""
        self.requeue(delivery.epoch, delivery.tag)
        if self._consuming.connection is not None:
            rule_out_stream(self._consuming.connection, self._pool.queue, self._rule_out_stream)

    def _rule_out_stream(self) -> None:
        self._stream_ruled_out = True

    def _probed(self, answer: Depth | Held | Unresponsive) -> None:
        if isinstance(answer, Depth) and self._subscription is not None:
            answer = msgspec.structs.replace(answer, former=self._subscription.former)
        self.events.append(answer)

    # ---- the publishing connection --------------------------------------------------------------------------------

    def _publisher_ready(self) -> None:
        """It may be what the epoch waits for."""
        publishing = self._publisher.dialer.connection
        if self._may_publish or publishing is None:
            self._begin_epoch()
        else:
            ask_to_publish(publishing, self._on_may_publish)
            # During an alarm the broker reads nothing from publishers: no answer is no refusal.
            self._reactor.call_later(_MAY_PUBLISH_S, lambda: self._on_may_publish(None))

    def _on_may_publish(self, trouble: Trouble | None) -> None:
        if trouble is None:
            self._may_publish = True
            self._begin_epoch()
        else:
            needed = "copies of messages (retries, dead letters) cannot be published to the default exchange"
            self._refuse(f"{self._publisher.dialer.host}: {needed}: {self._with_command(trouble).reason}")

    def _publisher_down(self, trouble: Trouble, retry_in_s: float) -> None:
        """Told to users only where the consumer waits for it."""
        if self._over:
            return
        if trouble.fatal:
            self._refuse(f"{self._publisher.dialer.host}: {trouble.reason}")
        elif self._queues_ready and self._subscription is None:
            reason = f"the connection for publishing: {trouble.reason}"
            self.events.append(Disconnected(reason, self._publisher.dialer.host, retry_in_s))

    # ---- the end --------------------------------------------------------------------------------------------------

    def _refuse(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self.events.append(Fatal(reason))
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._permit.release()
        if self._subscription is not None:
            self._subscription.flush(everything=True)
        self._publisher.close()
        self._consuming.close()

    def _hang_up(self) -> None:
        """Abort at the end of the closing timeout, also without the broker's confirm of a cancel."""
        self._say_goodbye()
        self.cut()

    def _forget_retry(self) -> None:
        if self._retry is not None:
            self._reactor.remove_timeout(self._retry)
            self._retry = None
