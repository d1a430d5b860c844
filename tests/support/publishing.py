"""A Publisher by itself on a real RabbitMQ: publish under tokens, and see what becomes of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from supervisor.brokers.amqp.connection import targets
from supervisor.brokers.amqp.errors import Trouble
from supervisor.brokers.amqp.publisher import Publisher
from supervisor.brokers.base import BrokerEvent, Confirmed, Unpublished
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor
from tests.support.rabbitmq import RabbitNode


class Fates:
    """What becomes of publications, as the publisher tells it."""

    def __init__(self) -> None:
        self.events: deque[BrokerEvent] = deque()
        self.by_token: dict[int, str] = {}
        self.reasons: dict[int, str] = {}
        self.absent: set[int] = set()
        self.downs: list[Trouble] = []

    def down(self, trouble: Trouble, retry_in_s: float) -> None:
        """The connection was lost."""
        self.downs.append(trouble)

    def hear(self) -> None:
        """Note all events so far."""
        while self.events:
            event = self.events.popleft()
            if isinstance(event, Confirmed):
                self._note(event.token, "confirmed", "")
            elif isinstance(event, Unpublished):
                self.absent |= {event.token} if event.absent else set()
                self._note(event.token, "lost" if event.lost else "refused", event.reason)

    def _note(self, token: int, fate: str, reason: str) -> None:
        assert token not in self.by_token, f"a second fate for {token}"
        self.by_token[token] = fate
        self.reasons[token] = reason


class AsyncClient:
    """A publisher with its reactor, a scratch queue and the fates it reports."""

    def __init__(self, node: RabbitNode, frame_max: int = 0) -> None:
        self.node = node
        self.fates = Fates()
        self.reactor = Reactor()
        self.hosts = targets(BrokerConfig(urls=(node.url,)), "publisher test", 30.0)
        if frame_max:
            self.hosts[0].parameters.frame_max = frame_max
        self.publisher = Publisher(self.reactor, self.fates.events, 20.0, lambda: None, self.fates.down)
        self.queue = f"desk-{id(self)}"
        with node.channel() as channel:
            # Its confirms wait for the disk, so that Returns overtake them.
            channel.queue_declare(self.queue, durable=True, arguments={"x-queue-type": "quorum"})

    def dial(self) -> None:
        """Connect, and again after each loss."""
        self.publisher.dialer.dial(self.hosts)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Turn until `condition()` holds."""
        deadline_s = monotonic_s() + 20.0
        self.fates.hear()
        while not condition():
            assert monotonic_s() < deadline_s, f"not within 20 s: {what}; fates: {self.fates.by_token}"
            self.reactor.poll(0.02)
            self.fates.hear()

    def publish(
        self, token: int, exchange: str = "", body: bytes = b"x", key: str | None = None, **properties: object
    ) -> None:
        """Publish to the scratch queue, or with another routing `key`."""
        key = self.queue if key is None else key
        publication = Publication(exchange, key, Properties(**properties), body)  # type: ignore[arg-type]
        self.publisher.publish(token, publication)

    def settled(self, *tokens: int) -> dict[int, str]:
        """The fates of all, once these have one."""
        self.until(lambda: set(tokens) <= set(self.fates.by_token), f"fates of {tokens}")
        return self.fates.by_token

    def bodies(self) -> list[bytes]:
        """What lies in the scratch queue, taken out, oldest first."""
        with self.node.channel() as channel:
            found = []
            while (got := channel.basic_get(self.queue, auto_ack=True))[0] is not None:
                found.append(got[2])
            return found

    def close(self) -> None:
        """Say goodbye; the queue is deleted."""
        self.publisher.close()
        self.until(lambda: self.publisher.dialer.closed, "closed")
        self.reactor.close()
        with self.node.channel() as channel:
            channel.queue_delete(self.queue)


@contextmanager
def connected_desk(node: RabbitNode, frame_max: int = 0) -> Iterator[AsyncClient]:
    """A desk whose publisher is connected; closed at the end. `frame_max`: the largest frame it agrees to, in bytes."""
    desk = AsyncClient(node, frame_max)
    desk.dial()
    desk.until(lambda: desk.publisher.connected, "connected")
    try:
        yield desk
    finally:
        desk.close()
