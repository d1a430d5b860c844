"""Driving a Broker in tests: a real Reactor turned by hand, events collected in order, waits on named conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import pytest

from supervisor.brokers import open_admin, open_broker
from supervisor.brokers.admin import BrokerAdmin
from supervisor.brokers.base import Broker, BrokerEvent, Connected, Delivery, Depth, Outgoing, Subscribed
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.messages.message import Properties, Publication
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor

E = TypeVar("E")


def a_pool(**changes: Any) -> PoolConfig:
    """A pool on a queue of its own, with one short retry delay."""
    pool = PoolConfig(
        name="p",
        queue=f"q-{uuid4().hex[:12]}",
        handler="a:b",
        retry_delays_s=(0.25,),
        queue_arguments={"x-queue-type": "quorum"},
    )
    return msgspec.structs.replace(pool, **changes)


def an_outgoing(token: int, queue: str, body: bytes = b"", **changes: Any) -> Outgoing:
    """A publication to a queue through the default exchange."""
    outgoing = Outgoing(token=token, exchange="", routing_key=queue, properties=Properties(), body=body)
    return msgspec.structs.replace(outgoing, **changes)


class Driver:
    """One broker object and everything it has said (`seen`, in order)."""

    def __init__(self, pool: PoolConfig, config: BrokerConfig, state_dir: Path) -> None:
        self.pool = pool
        self.reactor = Reactor()
        self.broker: Broker = open_broker(pool, config, str(state_dir), self.reactor)
        self.seen: list[BrokerEvent] = []
        self._taken: set[int] = set()
        self._closed = False

    def turn(self) -> None:
        """One pass, as the consumer does it."""
        self.broker.flush()
        self.reactor.poll(0.02)
        while self.broker.events:
            self.seen.append(self.broker.events.popleft())

    def until(self, condition: Callable[[], E], what: str, timeout_s: float = 20.0) -> E:
        """Turn until `condition()` holds; an AssertionError that names `what` and shows the events otherwise."""
        deadline_s = monotonic_s() + timeout_s
        while True:
            value = condition()
            if value:
                return value
            if monotonic_s() > deadline_s:
                raise AssertionError(f"not within {timeout_s:g} s: {what}; last events: {self.seen[-10:]}")
            self.turn()

    def next(self, kind: type[E], timeout_s: float = 20.0) -> E:
        """The first event of a kind that was not taken before, possibly after some turns."""
        return self.until(lambda: self._take(kind), f"an event {kind.__name__}", timeout_s)[0]

    def many(self, kind: type[E], count: int, timeout_s: float = 20.0) -> list[E]:
        """The next `count` events of a kind."""
        return [self.next(kind, timeout_s) for _ in range(count)]

    def of(self, kind: type[E]) -> list[E]:
        """Every event of a kind that was seen, taken or not."""
        return [event for event in self.seen if isinstance(event, kind)]

    def start(self) -> int:
        """Start and wait for the subscription; its epoch."""
        self.broker.start()
        self.next(Connected)
        return self.next(Subscribed).epoch

    def depth(self) -> Depth:
        """Ask for the depth and wait for the answer."""
        self.broker.probe()
        return self.next(Depth)

    def wait_for_depth(self, ready: int) -> None:
        """Ask until so many messages are ready."""
        self.until(lambda: self.depth().ready == ready, f"{ready} messages ready in {self.pool.queue}")

    def ack(self, delivery: Delivery) -> None:
        """Settle for good."""
        self.broker.ack(delivery.epoch, delivery.tag)

    def close(self) -> None:
        """Say goodbye and give everything back, also when the test has failed."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self.broker.closed:
                self.broker.close(5.0)
                self.until(lambda: self.broker.closed, "the broker object is closed")
        finally:
            self.reactor.close()

    def _take(self, kind: type[E]) -> list[E]:
        for index, event in enumerate(self.seen):
            if index not in self._taken and isinstance(event, kind):
                self._taken.add(index)
                return [event]
        return []


class Backend:
    """Where a broker lives: its configuration and state directory. Makes drivers, and talks to it from outside."""

    def __init__(self, config: BrokerConfig, state_dir: Path) -> None:
        self.config = config
        self.state_dir = state_dir

    @contextmanager
    def driver(self, pool: PoolConfig, config: BrokerConfig | None = None) -> Iterator[Driver]:
        """A broker object for a pool, not started yet; closed at the end."""
        driver = Driver(pool, config or self.config, self.state_dir)
        try:
            yield driver
        finally:
            driver.close()

    def admin(self) -> BrokerAdmin:
        """The command line's way in."""
        return open_admin(self.config, str(self.state_dir))

    def put(self, queue: str, *bodies: bytes, properties: Properties | None = None) -> None:
        """Publish from outside, confirmed."""
        publications = [Publication("", queue, properties or Properties(), body) for body in bodies]
        with self.admin() as admin:
            report = admin.publish(publications, 100, lambda _total: None)
        assert (report.sent, report.failed) == (len(bodies), [])

    def clean_up(self, pool: PoolConfig) -> None:
        """Delete the queues of a pool."""
        names = ("", ".dead", ".parked", ".retry.250", ".retry.500", ".retry.1000")
        with self.admin() as admin:
            for name in names:
                admin.delete_queue(f"{pool.queue}{name}")


@pytest.fixture
def pool(backend: Backend) -> Iterator[PoolConfig]:
    """A pool on the backend of the test's folder or file; its queues are deleted at the end."""
    pool = a_pool()
    yield pool
    backend.clean_up(pool)


@pytest.fixture
def driver(backend: Backend, pool: PoolConfig) -> Iterator[Driver]:
    """The broker object of that pool, subscribed."""
    with backend.driver(pool) as driver:
        driver.start()
        yield driver
