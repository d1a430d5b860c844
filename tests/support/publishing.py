"""A Publisher by itself on a real RabbitMQ: publish under tokens, and see what becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from supervisor.brokers.amqp.connection import targets
from supervisor.brokers.amqp.errors import Trouble
from supervisor.brokers.amqp.publisher import Publisher
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor
from tests.support.rabbitmq import RabbitNode


class Fates:
    """What becomes of publications, as their owner hears it."""

    def __init__(self) -> None:
        self.by_token: dict[int, str] = {}
        self.reasons: dict[int, str] = {}
        self.absent: set[int] = set()
        self.downs: list[Trouble] = []

    def publisher_ready(self) -> None:
        """Part of PublisherOwner."""

    def publisher_down(self, trouble: Trouble, retry_in_s: float) -> None:
        """Part of PublisherOwner."""
        self.downs.append(trouble)

    def publisher_blocked(self, reason: str | None) -> None:
        """Part of PublisherOwner."""

    def confirmed(self, token: int) -> None:
        """Part of PublisherOwner."""
        self._note(token, "confirmed", "")

    def unpublished(self, token: int, reason: str, lost: bool, for_good: bool, absent: bool) -> None:
        """Part of PublisherOwner."""
        if absent:
            self.absent.add(token)
        self._note(token, "lost" if lost else "refused", reason)

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
        hosts = targets(BrokerConfig(urls=(node.url,)), "publisher test", 30.0)
        if frame_max:
            hosts[0].parameters.frame_max = frame_max
        self.publisher = Publisher(self.reactor, hosts, self.fates, timeout_s=20.0)
        self.queue = f"desk-{id(self)}"
        with node.channel() as channel:
            # Its confirms wait for the disk, so that Returns overtake them.
            channel.queue_declare(self.queue, durable=True, arguments={"x-queue-type": "quorum"})

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Turn until `condition()` holds."""
        deadline_s = monotonic_s() + 20.0
        while not condition():
            assert monotonic_s() < deadline_s, f"not within 20 s: {what}; fates: {self.fates.by_token}"
            self.reactor.poll(0.02)

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
    desk.publisher.dialer.dial()
    desk.until(lambda: desk.publisher.connected, "connected")
    try:
        yield desk
    finally:
        desk.close()
