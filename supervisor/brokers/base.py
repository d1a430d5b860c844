"""The interface of a broker for a consumer, and its events: for RabbitMQ and the embedded queue.

Runs in the consumer process only. Calls never block, and never raise for a fault of broker or network; every result is
an event in `events`, which the consumer empties once a pass. All writes of a pass are sent by `flush()`. The broker
reconnects by itself (capped exponential back-off with jitter, the next host of the list each time).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

import msgspec

from supervisor.messages.message import Properties


class Delivery(msgspec.Struct, frozen=True):
    """A message from the queue. `tag` may be settled only together with the `epoch` that delivered it."""

    epoch: int
    tag: int
    exchange: str
    routing_key: str
    redelivered: bool
    properties: Properties
    body: bytes


class Outgoing(msgspec.Struct, frozen=True):
    """A publication with the token of its Confirmed or Unpublished.

    `exchange` "" is the default exchange: `routing_key` is the queue's name. With `delay_s` > 0 the message goes to the
    delay queue with the next longer step (`DELAY_LADDER_S`), regardless of `routing_key`, and returns to the pool's
    queue. Copies are always persistent and mandatory.
    """

    token: int
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    delay_s: float = 0.0


class Connected(msgspec.Struct, frozen=True):
    """Connections and channels are open, queues exist; `host`: as shown to users (no secrets)."""

    host: str


class Subscribed(msgspec.Struct, frozen=True):
    """The subscription of this epoch is up; deliveries follow."""

    epoch: int


class Disconnected(msgspec.Struct, frozen=True):
    """The epoch is over, with its tags. Publications go on. The broker reconnects after `retry_in_s`."""

    reason: str
    host: str
    retry_in_s: float


class Cancelled(msgspec.Struct, frozen=True):
    """The subscription ended: by `cancel()` (`reason` "") or by the broker (queue deleted ...)."""

    reason: str


class Confirmed(msgspec.Struct, frozen=True):
    """The broker has this publication (publisher confirm)."""

    token: int


class Unpublished(msgspec.Struct, frozen=True):
    """The broker does not have this publication: returned as unroutable, nacked, timed out, refused.

    `lost`: the connection ended before the confirm; the broker may have it, and it must be published again.
    `for_good`: the publication itself is the reason (too large, invalid), not its queue or a right.
    `absent`: it is certainly in no queue. `unroutable`: there is no queue for it.
    """

    token: int
    reason: str
    lost: bool = False
    for_good: bool = False
    absent: bool = False
    unroutable: bool = False


class Blocked(msgspec.Struct, frozen=True):
    """The broker accepts no publications (memory or disk alarm, connection.blocked) until Unblocked."""

    reason: str


class Unblocked(msgspec.Struct, frozen=True):
    """Publications are accepted again (connection.unblocked)."""


class Declared(msgspec.Struct, frozen=True):
    """The pool's missing queue was made; `text`: its arguments, and advice for publishers."""

    text: str


class Unsafe(msgspec.Struct, frozen=True):
    """Risks to messages in the pool's queues, a sentence each: preforkd did not make these queues."""

    remarks: tuple[str, ...]


class Fatal(msgspec.Struct, frozen=True):
    """The broker refuses permanently (credentials, vhost, rights, stream queue, missing queue)."""

    reason: str


class Depth(msgspec.Struct, frozen=True):
    """Answer to `probe()`: the numbers of ready messages and of consumers of the queue.

    `former`: the number of consumers that may be former subscriptions of this pool with unsettled deliveries. RabbitMQ
    counts these for quorum queues only.
    """

    ready: int
    consumers: int
    former: int = 0


class Held(msgspec.Struct, frozen=True):
    """The number of messages in another queue of the pool (delays, dead letters, parked); None: it was missing.

    None also comes without `probe()`, for a missing queue that was made.
    """

    queue: str
    messages: int | None


class Unresponsive(msgspec.Struct, frozen=True):
    """There was no answer to `probe()` in time."""

    waited_s: float


BrokerEvent = (
    Delivery
    | Connected
    | Subscribed
    | Disconnected
    | Cancelled
    | Confirmed
    | Unpublished
    | Blocked
    | Unblocked
    | Declared
    | Unsafe
    | Fatal
    | Depth
    | Held
    | Unresponsive
)


class Broker(ABC):
    """One pool's connection to its queue. Tags of a former epoch are ignored."""

    events: deque[BrokerEvent]

    @abstractmethod
    def start(self) -> None:
        """Connect, check (or declare) the queues, subscribe; reconnect until `close()`."""

    @abstractmethod
    def subscribe(self) -> None:
        """Subscribe (again) after `cancel()`, with a fresh consumer tag; answered with Subscribed."""

    @abstractmethod
    def cancel(self) -> None:
        """End the subscription; deliveries stay unsettled. Answered with Cancelled, after the last delivery."""

    @abstractmethod
    def ack(self, epoch: int, tag: int) -> None:
        """Acknowledge the delivery `tag` of `epoch` (basic.ack)."""

    @abstractmethod
    def requeue(self, epoch: int, tag: int) -> None:
        """Requeue the delivery `tag` of `epoch` (basic.nack)."""

    def narrow(self, most: int | None) -> None:  # noqa: B027  (only a broker that counts returns needs it)
        """Limit unsettled deliveries to `most` from the next connection on; None: to the pool's prefetch, at once.

        Unsettled deliveries count as returned at the end of a connection, and a quorum queue drops messages that return
        too often.
        """

    @abstractmethod
    def set_aside(self, tags: Sequence[tuple[int, int]]) -> None:
        """Exclude unsettled deliveries from the prefetch window. `tags`: all of them, as (epoch, tag).

        At least half of the prefetch stays available for others. Each call replaces the former one.
        """

    @abstractmethod
    def publish(self, outgoing: Outgoing) -> None:
        """Publish, persistent and mandatory; answered with one Confirmed or Unpublished, also after the epoch's end."""

    @abstractmethod
    def flush(self) -> None:
        """Send (or write to disk) all requests of this pass; called once, at its end."""

    @abstractmethod
    def probe(self, delay_queues: Sequence[str] = ()) -> None:
        """Query the queue's depth; answered with Depth or Unresponsive. Changes nothing.

        `delay_queues`: queried, too; each answered with Held after the Depth, or not at all.
        """

    @abstractmethod
    def cut(self) -> None:
        """Break the connection as a network fault would: the broker has back what is not settled."""

    @abstractmethod
    def close(self, timeout_s: float) -> None:
        """Close within `timeout_s` (then abort), and stop reconnecting. Progress needs further reactor passes."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether `close()` has completed."""

    @property
    @abstractmethod
    def silent_s(self) -> float:
        """Seconds since the broker's last byte; 0 if that means nothing (embedded, not connected)."""

    @property
    @abstractmethod
    def connections_opened(self) -> int:
        """The number of connections that this object has opened (status, tests)."""
