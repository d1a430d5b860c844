"""What a consumer asks of a broker, and what it is told: one interface for RabbitMQ and the embedded queue.

Runs in the consumer process only. Calls never block and never raise for what a broker or network does; everything
comes back as an event in `events`, which the consumer empties once per loop turn. All writes of a turn leave in
`flush()`. Reconnecting (jittered, capped back-off, next host of the list each time) is the broker's own business.
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
    """A publication with the token under which its fate is told.

    `exchange` "" and `routing_key` = queue name is the default exchange. With `delay_s` > 0 the message goes to the
    delay queue of the pool's queue whose step is at least that long (`delay_ladder_s`), whatever `routing_key` says,
    and comes back to the pool's queue. Copies are always persistent and mandatory.
    """

    token: int
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    delay_s: float = 0.0


class Connected(msgspec.Struct, frozen=True):
    """Connections and channels are open, queues are there; `host` as shown to users (no secrets)."""

    host: str


class Subscribed(msgspec.Struct, frozen=True):
    """The subscription of this epoch is up; deliveries follow."""

    epoch: int


class Disconnected(msgspec.Struct, frozen=True):
    """The epoch is over: its tags are void, publishes without a fate will get none. Reconnecting after `retry_in_s`."""

    reason: str
    host: str
    retry_in_s: float


class Cancelled(msgspec.Struct, frozen=True):
    """The subscription ended: asked for by `cancel()` (`reason` "") or by the broker (queue deleted ...)."""

    reason: str


class Confirmed(msgspec.Struct, frozen=True):
    """The broker has this publication (publisher confirm)."""

    token: int


class Unpublished(msgspec.Struct, frozen=True):
    """The broker does not have it: returned as unroutable, nacked, timed out, refused.

    `lost`: the connection went away before its fate was known; it may be there, and is to be published again.
    `for_good`: the publication itself is the reason (too large, cannot be sent), not the state of its queue or a right.
    """

    token: int
    reason: str
    lost: bool = False
    for_good: bool = False


class Blocked(msgspec.Struct, frozen=True):
    """The broker takes no publications (memory or disk alarm); Unblocked ends it."""

    reason: str


class Unblocked(msgspec.Struct, frozen=True):
    """Publications are taken again."""


class Declared(msgspec.Struct, frozen=True):
    """The pool's queue did not exist and has been made; `text` says how, and what publishers must know of it."""

    text: str


class Unsafe(msgspec.Struct, frozen=True):
    """Risks to messages in the pool's queues, a sentence each: preforkd did not make these queues."""

    remarks: tuple[str, ...]


class Fatal(msgspec.Struct, frozen=True):
    """The broker refuses and waiting will not heal it (credentials, vhost, rights, stream queue, missing queue)."""

    reason: str


class Depth(msgspec.Struct, frozen=True):
    """Answer to `probe()`: messages ready in the queue, and how many consumers it has.

    `former`: how many of them may be former subscriptions of ours that have unsettled deliveries. RabbitMQ counts these
    for quorum queues and not for others.
    """

    ready: int
    consumers: int
    former: int = 0


class Held(msgspec.Struct, frozen=True):
    """What another queue of the pool's has (for delays, dead letters, parked messages): so many messages; None: it was
    not there. None also comes unasked, at any time, about one that was missing and has been made."""

    queue: str
    messages: int | None


class Unresponsive(msgspec.Struct, frozen=True):
    """`probe()` got no answer in time."""

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
    """One pool's way to its queue. Made with the pool's and broker's configuration and a Reactor."""

    events: deque[BrokerEvent]

    @abstractmethod
    def start(self) -> None:
        """Connect, look for (or declare) the queues, subscribe; keep reconnecting until `close()`."""

    @abstractmethod
    def subscribe(self) -> None:
        """Subscribe (again) after `cancel()`, with a fresh consumer tag; answered with Subscribed."""

    @abstractmethod
    def cancel(self) -> None:
        """End the subscription; what was delivered stays ours. Answered with Cancelled, after its last delivery."""

    @abstractmethod
    def ack(self, epoch: int, tag: int) -> None:
        """Settle a delivery for good. A tag of an epoch that is over is dropped silently."""

    @abstractmethod
    def requeue(self, epoch: int, tag: int) -> None:
        """Return a delivery to its queue (nack with requeue). A tag of an epoch that is over is dropped silently."""

    def narrow(self, most: int | None) -> None:  # noqa: B027  (only a broker that counts returns needs it)
        """Have no more than `most` deliveries out from the next connection on; None: as many as the pool says, at once.

        What is out when a connection ends counts as returned, and a quorum queue drops what returns too often.
        """

    @abstractmethod
    def set_aside(self, tags: Sequence[tuple[int, int]]) -> None:
        """Deliver as if these deliveries, as (epoch, tag), were settled, which they are not.

        At least half of `prefetch` others are out besides them while there are any. Each call replaces the former one.
        """

    @abstractmethod
    def publish(self, outgoing: Outgoing) -> None:
        """Publish, persistent and mandatory; its fate comes as Confirmed or Unpublished, or never (Disconnected)."""

    @abstractmethod
    def flush(self) -> None:
        """Put on the wire (or on disk) what this turn asked for; called once per turn, last."""

    @abstractmethod
    def probe(self, delay_queues: Sequence[str] = ()) -> None:
        """Ask for the queue's depth without changing anything; answered with Depth or Unresponsive.

        And for that of `delay_queues`, each answered with Held after the Depth, or not at all.
        """

    @abstractmethod
    def cut(self) -> None:
        """Break the connection as a network fault would; for the drill."""

    @abstractmethod
    def close(self, timeout_s: float) -> None:
        """Say goodbye within `timeout_s` (then abort), and stop reconnecting. Progress needs further reactor passes."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether `close()` has completed."""

    @property
    @abstractmethod
    def silent_s(self) -> float:
        """For how long the broker has sent nothing; 0 while that means nothing (embedded, not connected)."""

    @property
    @abstractmethod
    def connections_opened(self) -> int:
        """How many broker connections this object has opened since it was made (status, tests)."""
