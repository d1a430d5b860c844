"""What a ride of a fleet happens on: a broker, a store, and hosts that reach both of them through proxies of their own.

Each host is in namespaces (`hosts.py`), with one cable. So a host can lose both ways, or one of them alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import msgspec
import pika.exceptions
import psycopg

from supervisor.brokers.names import parked_queue, retry_queue
from supervisor.errors import ControlError
from supervisor.messages.message import Properties, Publication
from tests.support.chaos.plan import Order
from tests.support.chaos.rig import Tail
from tests.support.daemon import cleaned_up
from tests.support.fleet import made_store, store_url
from tests.support.fleet_chaos.plan import LEASE_S, Shape
from tests.support.history import NOTES, Note
from tests.support.hosts import Host, running_hosts
from tests.support.postgresql import PostgreSQL
from tests.support.proxy import Proxy, running_proxy
from tests.support.rabbit_daemon import RabbitDaemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

READY_S = 90.0
TIMEOUT_S = 10.0
"""The longest a handler may run."""

_POOL = f"""
workers = {{workers}}
prefetch = 40
on_crash = "{{on_crash}}"
timeout = "{TIMEOUT_S:g}s"
max_timeout = "{TIMEOUT_S:g}s"
kill_grace = "1s"
max_attempts = 100
retry_delays = [{{delay_s}}]
max_messages = 500
restart_backoff = ["10ms", "100ms"]
restart_intensity = [100000, "1s"]
queue_arguments = {{{{ "x-queue-type" = "{{queue_type}}" }}}}
"""


class Member(RabbitDaemon):
    """The daemon of one host."""

    def __init__(self, directory: Path, host: Host, ways: Ways, node: RabbitNode, shape: Shape, queue: str) -> None:
        self.host, self.ways = host, ways
        self.notes_path = directory / "notes"
        self.notes_path.touch()
        url_file = directory / "fleet-url"
        url_file.touch(mode=0o600)
        url_file.write_text(ways.store_url)
        super().__init__(
            directory,
            node,
            _POOL.format(**msgspec.structs.asdict(shape)),
            program=[*host.enter(), sys.executable, "-m", "supervisor"],
            url=ways.broker_url,
            module="tests.support.chaos.chaos_handlers",
            environment={NOTES: self.notes_path},
            more=f'[fleet]\nurl_file = "{url_file}"\nname = "tests"\nlease = "{LEASE_S:g}s"\n',
            queue=queue,
            log="info",
        )
        self.delay_queue = retry_queue(queue, shape.delay_s)
        self.effects = Tail(self.notes_path, b'["effect"')
        self.noted = Tail(self.notes_path)

    def notes(self) -> list[Note]:
        """What its handlers have noted."""
        return [msgspec.json.decode(line, type=Note) for line in self.notes_path.read_bytes().splitlines()]

    def restart(self) -> None:
        """A new master. The first thing it does may be to wait for the store."""
        self.start(ready=False)
        eventually(self.is_ready, f"the next daemon of {self.host.name} is ready", READY_S)


class Ways(msgspec.Struct, frozen=True):
    """How a host reaches the broker and the store."""

    broker: Proxy
    store: Proxy
    broker_url: str
    store_url: str


class Rig:
    """Everything a strike can be aimed at."""

    def __init__(self, node: RabbitNode, server: PostgreSQL, database: str, members: list[Member]) -> None:
        self.node, self.server, self.database, self.members = node, server, database, members
        self.queue, self.delay_queue = members[0].queue, members[0].delay_queue

    # ---- work -------------------------------------------------------------------------------------------------------

    def publish(self, orders: Iterable[Order]) -> None:
        """Publish, past the proxies; every one is confirmed."""
        self.members[0].send_all(
            Publication(
                "", self.queue, Properties(message_id=None if order.bare else order.name), msgspec.json.encode(order)
            )
            for order in orders
        )

    def effects(self) -> int:
        """How many effects there have been on all hosts."""
        return sum(member.effects.count() for member in self.members)

    def settled(self) -> bool:
        """Whether broker, store and consumers have nothing left to do."""
        with suppress(ControlError, KeyError, pika.exceptions.AMQPError, OSError, psycopg.Error):
            in_flight = sum(member.pool()["consumer"]["in_flight"] for member in self.members)
            return not (in_flight or self.waiting() or self.node.unacked() or self.in_hand())
        return False

    def waiting(self) -> int:
        """Messages in the work queue and in its delay queue."""
        return sum(self._depth(name) for name in (self.queue, self.delay_queue))

    def in_hand(self) -> int:
        """Messages that the store has in hand."""
        ((count,),) = self.server.ask(self.database, "SELECT count(*) FROM preforkd.open")
        return int(str(count))

    def done_twice(self) -> list[str]:
        """Messages that the store has as done more than once."""
        sql = "SELECT name FROM preforkd.settled WHERE state = 'o' AND name <> '' GROUP BY name HAVING count(*) > 1"
        return [str(name) for (name,) in self.server.ask(self.database, sql)]

    def parked(self) -> list[Order]:
        """The messages in the parked queue, which stay there."""
        found = []
        with self.node.channel() as channel:
            while (got := channel.basic_get(parked_queue(self.queue)))[0] is not None:
                found.append(msgspec.json.decode(got[2], type=Order))
        return found

    def _depth(self, queue: str) -> int:
        with suppress(pika.exceptions.ChannelClosedByBroker):
            return self.node.depth(queue)
        return 0


@contextmanager
def rig(directory: Path, node: RabbitNode, server: PostgreSQL, shape: Shape) -> Iterator[Rig]:
    """Running daemons on so many hosts; only node and server are left when it is over."""
    database, queue = made_store(server), f"fleet-{uuid4().hex[:8]}"
    with ExitStack() as stack:
        hosts = stack.enter_context(running_hosts(directory, shape.hosts))
        members = []
        for host in hosts:
            folder = directory / host.name
            folder.mkdir()
            members.append(Member(folder, host, _ways(stack, host, node, server, database), node, shape, queue))
            if len(members) == 1:
                stack.callback(members[0].forget_queues)
            stack.enter_context(cleaned_up(members[-1], start=True))
        node.keep_queues()
        yield Rig(node, server, database, members)


def _ways(stack: ExitStack, host: Host, node: RabbitNode, server: PostgreSQL, database: str) -> Ways:
    broker = stack.enter_context(running_proxy(node.port, address=host.gateway))
    store = stack.enter_context(running_proxy(server.port, amqp=False, address=host.gateway))
    return Ways(
        broker,
        store,
        f"amqp://guest:guest@{host.gateway}:{broker.port}/%2F",
        store_url(store.port, database, host.gateway),
    )
