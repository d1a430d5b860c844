"""The consuming channel: one epoch. Subscribes, delivers, settles; its end is the end of all its delivery tags.

Runs in the consumer. Nothing is ever published on this channel, so that no publication can close it, and tags of
another epoch never reach it: tags restart at 1 on each channel, so a late ack would settle an unrelated message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto

import pika
import pika.channel
import pika.frame

from supervisor.brokers.amqp.acks import STRAGGLER_S, AckBatcher, How
from supervisor.brokers.amqp.errors import QueueTaken, taken
from supervisor.brokers.amqp.receiving import DeliveryCallback
from supervisor.brokers.amqp.rivals import Rivals
from supervisor.brokers.base import Delivery
from supervisor.config.schema import PoolConfig
from supervisor.messages.message import Properties
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor, Timer


class _State(Enum):
    """The state of the subscription."""

    OPENING = auto()
    IDLE = auto()
    LOOKING = auto()
    SUBSCRIBING = auto()
    PROVING = auto()
    SUBSCRIBED = auto()
    CANCELLING = auto()
    CLOSED = auto()


class Subscription:
    """The consuming channel of `epoch`, opened at once; it subscribes once it is ready if `wanted`.

    `deliver` gets the messages. `on_subscribed` is called when the subscription is up; `on_ended` when it was
    cancelled, by this side (reason "") or by the broker (True), and the channel stays open; `on_closed` at the epoch's
    end. With `rivals`, no message is delivered before the broker has counted no other consumer. Where it has counted
    one, the channel is closed with QueueTaken; with unsettled deliveries it stays open, and only the subscription ends.
    """

    def __init__(
        self,
        reactor: Reactor,
        connection: pika.SelectConnection,
        pool: PoolConfig,
        epoch: int,
        deliver: Callable[[Delivery], object],
        on_subscribed: Callable[[], object],
        on_ended: Callable[[str, bool], object],
        on_closed: Callable[[BaseException], object],
    ) -> None:
        self.epoch = epoch
        self.wanted = False
        self.prefetch = pool.prefetch
        """The limit of unsettled deliveries, set when the channel opens and by `widen`."""
        self.acks = AckBatcher()
        """Settles deliveries with the next `flush`."""
        self.rivals: Rivals | None = None
        """Looks for other consumers, where there may be none."""
        self._reactor = reactor
        self._pool = pool
        self._deliver = deliver
        self._on_subscribed = on_subscribed
        self._on_ended = on_ended
        self._on_closed = on_closed
        self._state = _State.OPENING
        self._later: Timer | None = None
        self._channel: pika.channel.Channel = connection.channel(on_open_callback=self._on_open)
        self._tag = ""
        self._last_delivery = 0  # its tag
        self._before = 0  # deliveries up to this tag are of a former consumer tag
        self._former: list[tuple[int, int]] = []  # of former consumer tags: deliveries beyond the one, up to the other
        self._renewing = False
        self._held: list[Delivery] = []  # until the subscription is known to be the only one
        self._gives_way = False

    def want(self, wanted: bool) -> None:
        """Subscribe if `wanted`, or cancel, as soon as the channel allows."""
        self.wanted = wanted
        self._steer()

    def set_aside(self, tags: Sequence[tuple[int, int]]) -> None:
        """Exclude `tags` from the prefetch window: once they fill half of it, renew the consumer tag.

        RabbitMQ counts unsettled deliveries for each consumer tag; those of a cancelled one stay held on this channel
        (https://www.rabbitmq.com/consumer-prefetch.html).
        """
        counted = sum(epoch == self.epoch and tag > self._before for epoch, tag in tags)
        if counted > self.prefetch // 2:
            self._renew()

    def widen(self) -> None:
        """Use the pool's prefetch: basic.qos counts for later consumer tags of the channel."""
        self.prefetch = self._pool.prefetch
        if self._state not in (_State.OPENING, _State.CLOSED):
            self._channel.basic_qos(prefetch_count=self.prefetch)
            self._renew()

    def _renew(self) -> None:
        if self._state is _State.SUBSCRIBED and self.wanted:
            self._renewing = True
            self._cancel()
            self._channel._cancelled.discard(self._tag)  # or pika would requeue deliveries on their way

    @property
    def former(self) -> int:
        """The number of former consumer tags with unsettled deliveries."""
        self._former = [tags for tags in self._former if self.acks.open_between(*tags)]
        return len(self._former)

    @property
    def idle(self) -> bool:
        """Whether there is no subscription, and none is requested."""
        return self._state in (_State.OPENING, _State.IDLE, _State.CLOSED)

    def flush(self, everything: bool = False) -> None:
        """Send the acks and returns of the pass. Acks above a gap follow later, unless `everything` is sent now."""
        if self._state is _State.CLOSED or not self._channel.is_open:
            return
        for frame in self.acks.take(monotonic_s(), everything):
            # fail-point: consumer.amqp-settling: the reason is durable, the broker is not told
            _SEND[frame.how](self._channel, frame.tag)
            # fail-point: consumer.amqp-settled: an ack or a return is on its way
        if self.acks.waiting and self._later is None:
            self._later = self._reactor.call_later(STRAGGLER_S, self._flush_later)

    def _flush_later(self) -> None:
        self._later = None
        self.flush()

    # ---- what the broker says -------------------------------------------------------------------------------------

    def _on_open(self, channel: pika.channel.Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(self._on_cancelled)
        channel.basic_qos(prefetch_count=self.prefetch, callback=self._on_ready)

    def _on_ready(self, _frame: pika.frame.Method) -> None:
        self._state = _State.IDLE
        self._steer()

    def _steer(self) -> None:
        if self._state is _State.IDLE and self.wanted:
            self._former.append((self._before, self._last_delivery))
            self._before = self._last_delivery
            if self.rivals is None:
                self._consume()
            else:
                self._state = _State.LOOKING
                self.rivals.look(0, lambda: self.former, self._looked)
        elif self._state is _State.LOOKING and not self.wanted:
            self._on_idle("")
        elif self._state in (_State.SUBSCRIBED, _State.PROVING) and not self.wanted:
            self._cancel()

    def _consume(self) -> None:
        self._state = _State.SUBSCRIBING
        self._tag = self._channel.basic_consume(
            self._pool.queue,
            DeliveryCallback(self._on_delivery),
            exclusive=self._pool.exclusive,
            arguments={"x-priority": self._pool.consumer_priority} if self._pool.consumer_priority else None,
            callback=self._on_consuming,
        )

    def _cancel(self) -> None:
        self._state = _State.CANCELLING
        self._channel.basic_cancel(self._tag, callback=lambda _ok: self._on_idle(""))

    def _on_consuming(self, _frame: pika.frame.Method) -> None:
        if self.rivals is None:
            self._begin()
            return
        self._state = _State.PROVING
        self.rivals.look(1, lambda: self.former, self._proved)
        self._steer()

    def _begin(self) -> None:
        """Deliver from now on."""
        self._state = _State.SUBSCRIBED
        if not self._renewing:
            self._on_subscribed()
        self._renewing = False
        held, self._held = self._held, []
        for delivery in held:
            self._deliver(delivery)
        self._steer()

    def _on_idle(self, reason: str, by_broker: bool = False) -> None:
        if self._state in (_State.IDLE, _State.CLOSED):  # cancelled from both sides at once
            return
        self._state = _State.IDLE
        if self.rivals is not None:
            self.rivals.close()
        self._return_held()
        if self._gives_way:
            self._give_way()
            return
        self._renewing = self._renewing and self.wanted
        if not self._renewing:
            self._on_ended(reason, by_broker)
        self._steer()

    def _on_cancelled(self, _frame: pika.frame.Method) -> None:
        self.wanted = self._gives_way = False
        self._on_idle(
            f"the broker ended the subscription: queue {self._pool.queue!r} was deleted, or its leader was lost", True
        )

    def _on_delivery(
        self, tag: int, exchange: str, routing_key: str, redelivered: bool, properties: Properties, body: bytes
    ) -> None:
        self.acks.delivered(tag)
        self._last_delivery = tag
        delivery = Delivery(self.epoch, tag, exchange, routing_key, redelivered, properties, body)
        if self.rivals is not None and (self._gives_way or self._state in (_State.SUBSCRIBING, _State.PROVING)):
            self._held.append(delivery)
        else:
            self._deliver(delivery)

    def _on_channel_closed(self, _channel: pika.channel.Channel, error: BaseException) -> None:
        self._state = _State.CLOSED
        if self._later is not None:
            self._reactor.remove_timeout(self._later)
        if self.rivals is not None:
            self.rivals.close()
        self._on_closed(QueueTaken(self._pool.queue) if self._gives_way else error)

    # ---- other consumers ------------------------------------------------------------------------------------------

    def _looked(self, others: bool) -> None:
        """Before the subscription."""
        if others:
            self._state = _State.IDLE
            self._give_way()
        else:
            self._consume()

    def _proved(self, others: bool) -> None:
        """After it. Another consumer may have looked at the same moment: both give way, and try again."""
        if others:
            self._gives_way = True
            self._cancel()
        else:
            self._begin()

    def _give_way(self) -> None:
        """Runs under way keep their channel: another consumer would get their messages if it were closed."""
        self._gives_way = self._renewing = False
        if self.acks.any_open:
            self.wanted = False
            self._on_ended(taken(self._pool.queue).reason, False)
        else:
            self._gives_way = True
            self.flush(everything=True)
            self._channel.close()
            self._state = _State.CLOSED

    def _return_held(self) -> None:
        """Messages of a subscription that ended before it was known to be the only one."""
        held, self._held = self._held, []
        for delivery in held:
            self.acks.requeue(delivery.tag)
        if held:
            self.flush()


_SEND: dict[How, Callable[[pika.channel.Channel, int], object]] = {
    How.RETURN: lambda channel, tag: channel.basic_nack(tag, requeue=True),
    How.ACK: lambda channel, tag: channel.basic_ack(tag),
    How.ACK_UP_TO: lambda channel, tag: channel.basic_ack(tag, multiple=True),
}
