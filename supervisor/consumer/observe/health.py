"""What the consumer tells about its broker: connection and queue for `status`, and symptoms of both.

The symptoms (each logged once, until it heals): messages are ready and we are subscribed, yet nothing is delivered
(`consumer.starved`); the broker does not answer a passive declare (`queue.unresponsive`); others consume too
(`queue.shared`); a queue that others have declared breaks a promise (`queue.unsafe`); messages have come back so often
that their queue may drop them (`queue.delivery_limit`), or have left it without a delivery (`queue.shrunk`). Pure, but
for the log.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from supervisor.brokers.base import Depth
from supervisor.consumer.settlement.delivery_limit import DEFAULT_LIMIT
from supervisor.link.consumer_state import ConnectionStatus, QueueStatus
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.symptoms import Symptoms
from supervisor.system.clock import monotonic_s

PROBE_INTERVAL_S = 5.0
STARVED_AFTER_S = 30.0
UNKNOWN_LOOKS = 5
"""So many answers in a row that count no consumer mean that the queue does not work."""
WORN_SHOWN_S = 600.0
"""For how long messages that came back too often, or left their queue, stay a note after the last one."""
WORN_CALM_S = 30.0
"""For how long fewer messages are in hand after the last of them."""


class Shrinkage:
    """The balance of one queue, from one look to the next: it gets shorter only by deliveries.

    A policy of the broker (message-ttl, max-length, expires) cannot be asked for over AMQP; its effect can be seen.
    What comes in hides as many losses.
    """

    def __init__(self) -> None:
        self._ready: int | None = None
        self._delivered = 0
        self._rate = 0  # deliveries between the last two looks

    def look(self, ready: int, delivered: int, prefetch: int) -> int:
        """How many messages have left the queue otherwise since the last look, about; 0 while that is uncertain.

        `ready`: messages in the queue now; `delivered`: all that were ever received.

        Up to `prefetch` deliveries may be on their way while the broker answers; what it sends between its answer and
        our hearing of it is taken for half a look's deliveries at most.
        """
        rate, former = delivered - self._delivered, self._ready
        uncertain = prefetch + max(rate, self._rate) // 2
        self._ready, self._delivered, self._rate = ready, delivered, rate
        left = 0 if former is None else former - ready - rate
        return left if left > uncertain else 0

    def forget(self) -> None:
        """Others take messages, too: begin again."""
        self._ready = None


class Health(Symptoms):
    """The broker's state as last heard, and the symptoms that this process notices in its pool."""

    def __init__(self, queue: str, danger: str = "", shared: bool = False) -> None:
        """`danger`: the risk of the queue's limits, shown all the time. `shared`: the daemons of a fleet consume it."""
        super().__init__(queue=queue)
        self._queue = queue
        self._danger = danger
        self._shared = shared
        self._state, self._host, self._why, self._blocked = "connecting", "", "", ""
        self._since_s = monotonic_s()
        self._made = ""
        self._depth: Depth | None = None
        self._fed_s = monotonic_s()
        self._worn_s = 0.0
        self._unknown = 0  # answers in a row that count no consumer, while we are subscribed
        self._shrinkage = Shrinkage()
        self._left, self._left_s = 0, 0.0  # messages that left otherwise than to us, and when the last ones did

    def connection(self, state: str, host: str = "", why: str = "") -> None:
        """The connection for consuming is now in this `state`: connected, connecting, refused or closed. `why`: the
        reason, for people."""
        self._state, self._why, self._since_s = state, why, monotonic_s()
        self._host = host or self._host
        if self._danger and state == "connected":
            self.notice(Event.QUEUE_DELIVERY_LIMIT, self._danger)
        self._fed_s = monotonic_s()

    def blocked(self, why: str) -> None:
        """The broker takes no publications; `why`: the reason, "" once it takes them. Tells nothing about the
        connection for consuming, which comes and goes meanwhile."""
        if why != self._blocked:
            self._blocked, self._since_s = why, monotonic_s()

    def fed(self) -> None:
        """Messages were delivered, or there was no room for any."""
        self._fed_s = monotonic_s()
        self.heal(Event.CONSUMER_STARVED)

    def depth(self, depth: Depth, subscribed: bool, delivered: int = 0, prefetch: int = 0) -> None:
        """The answer to a probe. `subscribed`: whether deliveries come; `delivered`: all messages ever received;
        `prefetch`: how many may be on their way."""
        if depth.consumers or not subscribed:
            self._balance(depth, delivered, prefetch)
            self._unknown = 0
            self.heal(Event.QUEUE_UNRESPONSIVE)
        else:  # as RabbitMQ says of a quorum queue without a leader, and for some seconds of a new consumer
            self._unknown += 1
        if self._unknown >= UNKNOWN_LOOKS:
            self.notice(
                Event.QUEUE_UNRESPONSIVE,
                f"{self._queue!r} is reported as empty and without consumers, although preforkd is subscribed: it has "
                "no leader (too few of its nodes are up), and nothing is delivered: `rabbitmqctl list_queues name "
                "leader online`",
                degrades=True,
            )
        self._depth = msgspec.structs.replace(depth, consumers=max(depth.consumers, 1)) if subscribed else depth
        if monotonic_s() - self._worn_s > WORN_SHOWN_S and not self._danger:
            self.heal(Event.QUEUE_DELIVERY_LIMIT)
        hungry_s = monotonic_s() - self._fed_s
        if depth.ready and subscribed and hungry_s > STARVED_AFTER_S:
            self.notice(
                Event.CONSUMER_STARVED,
                f"{depth.ready} messages are ready in {self._queue!r} and preforkd is subscribed, but nothing was "
                f"delivered for {hungry_s:.0f} s: look at the broker (flow control, alarms, a stuck queue process)",
                degrades=True,
            )
        if depth.consumers - depth.former > 1 and not self._shared:
            self.notice(
                Event.QUEUE_SHARED,
                f"queue {self._queue!r} has {depth.consumers} consumers: the guarantees hold for a single "
                "consumer; stop the others or set `exclusive = true`",
            )
        else:
            self.heal(Event.QUEUE_SHARED)

    def _balance(self, depth: Depth, delivered: int, prefetch: int) -> None:
        """Notice messages that leave the queue otherwise than to us."""
        if depth.consumers - depth.former > 1:
            self._shrinkage.forget()
        elif left := self._shrinkage.look(depth.ready, delivered, prefetch):
            self._left, self._left_s = self._left + left, monotonic_s()
            self.notice(
                Event.QUEUE_SHRUNK,
                f"about {self._left} messages have left {self._queue!r} without a run: it was purged or deleted, "
                "they expired or were dropped, or a client took them; preforkd does not know them. Policies are not "
                "visible to it: `rabbitmqctl list_queues name policy effective_policy_definition`",
            )
        elif monotonic_s() - self._left_s > WORN_SHOWN_S:
            self._left = 0
            self.heal(Event.QUEUE_SHRUNK)

    @property
    def calm(self) -> bool:
        """Whether it is half a minute since a message had come back too often."""
        return self._worn_s == 0.0 or monotonic_s() - self._worn_s > WORN_CALM_S

    def worn(self, count: int, limit: int | None) -> None:
        """A message has come back `count` times (0: none has); its queue drops it beyond `limit` (None: unknown)."""
        if not count:
            return
        self._worn_s = monotonic_s()
        beyond = (
            f"{limit} times"
            if limit is not None
            else f"its limit ({DEFAULT_LIMIT} from RabbitMQ 4.0 on, or a policy's)"
        )
        self.notice(
            Event.QUEUE_DELIVERY_LIMIT,
            f"messages of {self._queue!r} have come back up to {count} times; one that comes back more often than "
            f"{beyond} is dropped by its queue. A copy takes the place of each in time: find out why our "
            "connections, or raise x-delivery-limit",
        )

    def unresponsive(self, waited_s: float) -> None:
        """A probe got no answer."""
        self.notice(
            Event.QUEUE_UNRESPONSIVE,
            f"the broker did not answer a passive declare of {self._queue!r} for {waited_s:.0f} s",
        )

    def made(self, text: str) -> None:
        """The queue did not exist and was declared; `text` says how: publishers must know."""
        self._made = text
        log(Event.QUEUE_DECLARED, text, queue=self._queue)

    def queues(self, remarks: Sequence[str]) -> None:
        """Show the risks to messages in the pool's queues. `remarks`: one text each; empty where there are none."""
        if remarks:
            self.notice(Event.QUEUE_UNSAFE, "; ".join(remarks))
        else:
            self.heal(Event.QUEUE_UNSAFE)

    @property
    def connected(self) -> bool:
        """Whether the broker is connected; blocked counts: it settles, it only takes no publications."""
        return self._state == "connected"

    @property
    def publishing(self) -> bool:
        """Whether the broker takes publications."""
        return self.connected and not self._blocked

    @property
    def queue_is_ours(self) -> bool:
        """Whether we are known to be the queue's only consumer."""
        return not self._shared and self._depth is not None and self._depth.consumers <= 1

    def connection_status(self, opened: int) -> ConnectionStatus:
        """`connection` of a Snapshot. `opened`: connections since the consumer started."""
        blocked = self._blocked if self.connected else ""
        return ConnectionStatus(
            state="blocked" if blocked else self._state,
            host=self._host,
            since_s=round(monotonic_s() - self._since_s, 3),
            opened=opened,
            why=blocked or self._why,
        )

    def queue_status(self) -> QueueStatus:
        """`queue` of a Snapshot."""
        depth, declared = self._depth, self._made or UNSET
        if depth is None:
            return QueueStatus(name=self._queue, declared=declared)
        return QueueStatus(ready=depth.ready, consumers=depth.consumers, name=self._queue, declared=declared)
