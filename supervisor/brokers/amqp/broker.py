"""RabbitMQ as a Broker: one connection that consumes and acks, one that publishes, both on the consumer's Reactor.

Runs in the consumer process only; the command line uses `admin.py`. An epoch is one consuming channel. It ends
when that channel or its connection does; the publishing connection comes and goes without touching it. This file
decides what follows what; the pieces are in amqp_connection, amqp_queues, amqp_subscription and amqp_publisher.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pika

from supervisor.brokers.amqp.connection import Backoff, Dialer, targets
from supervisor.brokers.amqp.copy_queues import CopyQueues
from supervisor.brokers.amqp.declarer import Declarer
from supervisor.brokers.amqp.errors import Trouble, explain
from supervisor.brokers.amqp.findings import QueueFindings
from supervisor.brokers.amqp.publisher import Publisher
from supervisor.brokers.amqp.questions import Probe, ask_to_publish, rule_out_stream
from supervisor.brokers.amqp.queues import pool_queues
from supervisor.brokers.amqp.rights import account_of, with_command
from supervisor.brokers.amqp.subscription import Subscription
from supervisor.brokers.base import (
    Blocked,
    Broker,
    BrokerEvent,
    Cancelled,
    Confirmed,
    Connected,
    Delivery,
    Depth,
    Disconnected,
    Fatal,
    Held,
    Outgoing,
    Subscribed,
    Unblocked,
    Unpublished,
    Unresponsive,
)
from supervisor.brokers.permits import Permit
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.errors import BrokerRefused
from supervisor.messages.message import Publication
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor, Timer

_STREAM_HEADER = "x-stream-offset"
"""RabbitMQ sets it on every delivery of a stream, and nowhere else; but publishers may set any header."""

_MAY_PUBLISH_S = 2.0
_CHANNELS = 4
"""The consuming connection has channels for queues, deliveries, depths, and now and then for one more question."""


class AmqpBroker(Broker):
    """One pool's two connections to RabbitMQ."""

    def __init__(self, pool: PoolConfig, broker: BrokerConfig, state_dir: str, reactor: Reactor) -> None:
        self.events: deque[BrokerEvent] = deque()
        self._pool = pool
        self._config = broker
        self._reactor = reactor
        self._consuming: Dialer | None = None
        self._publisher: Publisher | None = None
        self._probe = Probe(reactor, pool.queue, self._probed)
        self._declarer: Declarer | None = None
        self._permit = Permit(reactor, Path(state_dir))
        self._findings = QueueFindings(pool.queue, self.events.append)
        self._queues_ready = False
        self._may_publish = False
        self._subscription: Subscription | None = None
        self._most: int | None = None  # deliveries that may be out, if fewer than the pool says
        self._wanted = True
        self._epoch = 0
        self._up_since_s = self._serves_since_s = 0.0
        self._backoff = Backoff()
        self._retry: Timer | None = None
        self._copy_queues: CopyQueues | None = None
        self._stream_ruled_out = False
        self._over = False  # closing, or refused for good

    # ---- calls of the consumer ------------------------------------------------------------------------------------

    def start(self) -> None:
        heartbeats_s = 2 * self._config.heartbeat_s
        publish_timeout_s = max(heartbeats_s, self._config.blocked_timeout_s)
        name = self._pool.name
        try:
            consuming = targets(self._config, f"preforkd consumer {name}", heartbeats_s)
            publishing = targets(self._config, f"preforkd publisher {name}", publish_timeout_s)
        except BrokerRefused as error:
            self._refuse(str(error))
            return
        self._consuming = Dialer(self._reactor, consuming, self)
        self._publisher = Publisher(self._reactor, publishing, self, self._config.blocked_timeout_s)
        self._consuming.dial()
        self._publisher.dialer.dial()

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
            self._subscription.ack(tag)

    def requeue(self, epoch: int, tag: int) -> None:
        if self._subscription is not None and self._subscription.epoch == epoch:
            self._subscription.requeue(tag)

    def narrow(self, most: int | None) -> None:
        widens = most is None and self._most is not None
        self._most = most
        if widens and self._subscription is not None:
            self._subscription.widen()

    def set_aside(self, tags: Sequence[tuple[int, int]]) -> None:
        if self._subscription is not None:
            self._subscription.set_aside(tags)

    def publish(self, outgoing: Outgoing) -> None:
        publisher, copy_queues, token, epoch = self._publisher, self._copy_queues, outgoing.token, self._epoch
        if publisher is None:
            self.unpublished(token, "the broker was not started")
        elif copy_queues is None:
            self.unpublished(token, "there is no connection to the broker", lost=True)
        else:

            def send(publication: Publication) -> None:
                if self._epoch == epoch:
                    publisher.publish(token, publication)

            def refuse(trouble: Trouble) -> None:
                if self._epoch == epoch:
                    self.unpublished(token, trouble.reason)

            copy_queues.send(outgoing, send, refuse)

    def flush(self) -> None:
        if self._subscription is not None:
            self._subscription.flush()

    def probe(self, delay_queues: Sequence[str] = ()) -> None:
        self._probe.ask(self._consuming.connection if self._consuming else None, delay_queues)

    def cut(self) -> None:
        if self._consuming is not None and self._publisher is not None:
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
        if self._consuming is None or self._publisher is None:
            return self._over
        return self._consuming.closed and self._publisher.dialer.closed

    @property
    def silent_s(self) -> float:
        return self._consuming.silent_s if self._consuming is not None else 0.0

    @property
    def connections_opened(self) -> int:
        if self._consuming is None or self._publisher is None:
            return 0
        return self._consuming.opened + self._publisher.dialer.opened

    # ---- the consuming connection (connection.Owner) --------------------------------------------------------------

    def connection_up(self, connection: pika.SelectConnection) -> None:
        """The consuming connection is open: see to the queues."""
        channels = connection.params.channel_max
        if 0 < channels < _CHANNELS:
            allowed = (
                f"the broker allows {channels} channel(s) on a connection (channel_max), a consumer needs {_CHANNELS}"
            )
            self._refuse(f"{self._consuming.host if self._consuming else ''}: {allowed}")
            return
        self._declarer = Declarer(connection, self._permit, self._findings, self._with_command)
        self._copy_queues = CopyQueues(self._pool.queue, self._declarer)
        self._set_up()

    def connection_down(self, trouble: Trouble, retry_in_s: float) -> None:
        """The consuming connection was lost or failed."""
        if self._declarer is not None:
            self._declarer.close()
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
        dialer = self._consuming
        return trouble if dialer is None else with_command(trouble, account_of(dialer.parameters), [self._pool])

    def _begin_epoch(self) -> None:
        """Once both connections are up, the queues are there and copies may be published, whichever is last."""
        ready = self._queues_ready and self._may_publish and self._publisher is not None and self._publisher.connected
        if not ready or self._over or self._subscription is not None or self._consuming is None:
            return
        self._epoch += 1
        self._up_since_s, self._serves_since_s = monotonic_s(), 0.0
        self.events.append(Connected(self._consuming.host))
        if not self._wanted:
            self._findings.tell()
        self._subscription = Subscription(self._reactor, self._consuming.connection, self._pool, self._epoch, self)
        self._subscription.prefetch = min(self._pool.prefetch, self._most or self._pool.prefetch)
        self._subscription.wanted = self._wanted

    def _end_epoch(self, trouble: Trouble, retry_in_s: float) -> None:
        """All delivery tags end, and former publications are not reported any more."""
        if self._subscription is not None:
            now_s = monotonic_s()
            served_s = now_s - self._serves_since_s if self._serves_since_s else 0.0
            self._backoff.healed(now_s - self._up_since_s, served_s)
        self._subscription = None
        self._queues_ready = False
        if self._over or self._publisher is None or self._consuming is None:
            return
        self._publisher.forget()
        if trouble.fatal:
            self._refuse(f"{self._consuming.host}: {trouble.reason}")
        else:
            self.events.append(Disconnected(trouble.reason, self._consuming.host, retry_in_s))

    def _restart_epoch(self, trouble: Trouble) -> None:
        """The connection lives, the channel or a queue does not: try again on the same connection."""
        retry_in_s = self._backoff.next_s()
        self._end_epoch(trouble, retry_in_s)
        if not self._over:
            self._retry = self._reactor.call_later(retry_in_s, self._set_up)

    # ---- the consuming channel (subscription.SubscriptionOwner) ---------------------------------------------------

    def delivered(self, delivery: Delivery) -> None:
        """A message, unless it might be a stream's."""
        headers = delivery.properties.headers
        if headers and _STREAM_HEADER in headers and not self._stream_ruled_out:
            self._suspect_stream(delivery)
        else:
            self.events.append(delivery)

    def subscribed(self, epoch: int) -> None:
        """The subscription of `epoch` is up."""
        self._serves_since_s = self._serves_since_s or monotonic_s()
        if self._consuming is not None:
            self._consuming.serves()
        self.events.append(Subscribed(epoch))
        self._findings.tell()

    def subscription_ended(self, reason: str) -> None:
        """The subscription was cancelled; after a cancel by the broker the queues are checked again."""
        if reason:
            self._wanted = self._queues_ready = False
            self._findings.forget()
        self.events.append(Cancelled(reason))
        if self._over:
            self._say_goodbye()

    def channel_closed(self, error: BaseException) -> None:
        """The epoch is over; where its connection ended too, `connection_down` follows."""
        connection = self._consuming.connection if self._consuming else None
        if connection is not None and connection.is_open:
            self._restart_epoch(self._with_command(explain(error)))

    def _suspect_stream(self, delivery: Delivery) -> None:
        """A stream's messages cannot be settled, so nothing may run before it is known. The message comes again."""
        self.requeue(delivery.epoch, delivery.tag)
        if self._consuming is not None and self._consuming.connection is not None:
            rule_out_stream(self._consuming.connection, self._pool.queue, self._rule_out_stream)

    def _probed(self, answer: Depth | Held | Unresponsive) -> None:
        """The answer to a probe."""
        if isinstance(answer, Depth) and self._subscription is not None:
            answer = msgspec.structs.replace(answer, former=self._subscription.former)
        self.events.append(answer)

    def _rule_out_stream(self) -> None:
        self._stream_ruled_out = True

    # ---- the publishing connection (publisher.PublisherOwner) -----------------------------------------------------

    def publisher_ready(self) -> None:
        """It may be what the epoch waits for."""
        publishing = self._publisher.dialer.connection if self._publisher is not None else None
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
        elif self._publisher is not None:
            trouble = self._with_command(trouble)
            needed = "copies of messages (retries, dead letters) cannot be published to the default exchange"
            self._refuse(f"{self._publisher.dialer.host}: {needed}: {trouble.reason}")

    def publisher_down(self, trouble: Trouble, retry_in_s: float) -> None:
        """Told to users only where the consumer waits for it."""
        if self._over or self._publisher is None:
            return
        if trouble.fatal:
            self._refuse(f"{self._publisher.dialer.host}: {trouble.reason}")
        elif self._queues_ready and self._subscription is None:
            reason = f"the connection for publishing: {trouble.reason}"
            self.events.append(Disconnected(reason, self._publisher.dialer.host, retry_in_s))

    def publisher_blocked(self, reason: str | None) -> None:
        """An alarm is up, or over."""
        self.events.append(Unblocked() if reason is None else Blocked(reason))

    def confirmed(self, token: int) -> None:
        """The broker has the publication with this `token`."""
        # fail-point: consumer.amqp-confirmed: the broker has a publication, no row says so
        self.events.append(Confirmed(token))

    def unpublished(
        self, token: int, reason: str, lost: bool = False, for_good: bool = False, absent: bool = False
    ) -> None:
        """The broker does not have the publication with this `token`; queues are checked, as one may be deleted.

        `lost`, `for_good`, `absent`: as of PublisherOwner.
        """
        if self._copy_queues is not None:
            self._copy_queues.doubt()
        self.events.append(Unpublished(token, reason, lost, for_good))

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
        if self._consuming is not None and self._publisher is not None:
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
