"""What a ride happens on: a broker, a proxy before it, a daemon behind that, its state on a disk of its own.

Knows how far the work has come, and finds processes by what the kernel says of them, so that it needs no daemon that
answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
import pika.exceptions

from supervisor.brokers.names import parked_queue, retry_queue
from supervisor.errors import ControlError
from supervisor.messages.message import Properties, Publication
from tests.support.chaos.plan import Order, Shape
from tests.support.daemon import cleaned_up
from tests.support.disks import SmallDisk, small_disk
from tests.support.history import NOTES, Note
from tests.support.proxy import Proxy, running_proxy
from tests.support.rabbit_daemon import RabbitDaemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

_READY_S = 60.0

_POOL = """
workers = {workers}
prefetch = 40
on_crash = "{on_crash}"
timeout = "30s"
max_attempts = 100
retry_delays = [{delay_s}]
max_messages = 500
restart_backoff = ["10ms", "100ms"]
restart_intensity = [100000, "1s"]
queue_arguments = {{ "x-queue-type" = "{queue_type}" }}
"""


class ChaosDaemon(RabbitDaemon):
    """A daemon that reaches its broker through the proxy, and runs `chaos_handlers`."""

    def __init__(self, directory: Path, node: RabbitNode, proxy: Proxy, shape: Shape) -> None:
        self.notes_path = directory / "notes"
        self.notes_path.touch()
        pool = _POOL.format(**msgspec.structs.asdict(shape))
        super().__init__(
            directory,
            node,
            pool,
            port=proxy.port,
            module="tests.support.chaos.chaos_handlers",
            environment={NOTES: self.notes_path},
            log="info",
        )
        self.delay_queue = retry_queue(self.queue, shape.delay_s)


class Rig:
    """Everything a strike can be aimed at."""

    def __init__(self, node: RabbitNode, proxy: Proxy, daemon: ChaosDaemon, disk: SmallDisk) -> None:
        self.node, self.proxy, self.daemon, self.disk = node, proxy, daemon, disk
        self._effects = Tail(daemon.notes_path, b'["effect"')
        self._losses = Tail(daemon.log_path, b'"consumer.disconnected"')
        self._ledger_failures = Tail(daemon.log_path, b'"ledger.failed"')

    # ---- work -------------------------------------------------------------------------------------------------------

    def publish(self, orders: Iterable[Order]) -> None:
        """Publish, past the proxy; every one is confirmed."""
        self.daemon.send_all(
            Publication(
                "",
                self.daemon.queue,
                Properties(message_id=None if order.bare else order.name),
                msgspec.json.encode(order),
            )
            for order in orders
        )

    def effects(self) -> int:
        """How many effects there have been."""
        return self._effects.count()

    def losses(self) -> int:
        """How often the daemon has said that it lost its connection."""
        return self._losses.count()

    def ledger_failures(self) -> int:
        """How often the daemon has said that its ledger cannot be written."""
        return self._ledger_failures.count()

    def restart_daemon(self) -> None:
        """A new master, up to its being ready."""
        self.daemon.start(ready=False)
        eventually(self.daemon.is_ready, "the next daemon is ready", _READY_S)

    def settled(self) -> bool:
        """Whether broker and consumer have nothing left to do."""
        with suppress(ControlError, KeyError, pika.exceptions.AMQPError, OSError):
            in_flight = self.daemon.pool()["consumer"]["in_flight"]
            return not (in_flight or self.waiting() or self.node.unacked())
        return False

    def waiting(self) -> int:
        """Messages in the work queue and in its delay queue."""
        return sum(self._depth(name) for name in (self.daemon.queue, self.daemon.delay_queue))

    def consumers(self) -> int:
        """How many consumers the work queue has; 0 where there is no such queue."""
        with suppress(pika.exceptions.ChannelClosedByBroker), self.node.channel() as channel:
            count: int = channel.queue_declare(self.daemon.queue, passive=True).method.consumer_count
            return count
        return 0

    def delete_queue(self) -> None:
        """Delete the work queue."""
        with self.node.channel() as channel:
            channel.queue_delete(self.daemon.queue)

    # ---- evidence ---------------------------------------------------------------------------------------------------

    def notes(self) -> list[Note]:
        """What handlers have noted."""
        return [msgspec.json.decode(line, type=Note) for line in self.daemon.notes_path.read_bytes().splitlines()]

    def parked(self) -> list[Order]:
        """The messages in the parked queue, which stay there."""
        found = []
        with self.node.channel() as channel:
            while (got := channel.basic_get(parked_queue(self.daemon.queue)))[0] is not None:
                found.append(msgspec.json.decode(got[2], type=Order))
        return found

    def _depth(self, queue: str) -> int:
        with suppress(pika.exceptions.ChannelClosedByBroker):
            return self.node.depth(queue)
        return 0


class Tail:
    """Reads each byte of a growing file once. Counts `mark`."""

    def __init__(self, path: Path, mark: bytes = b"") -> None:
        self._path, self._mark = path, mark
        self._offset = self._count = 0

    def count(self) -> int:
        """So many until now."""
        self._count += self.more().count(self._mark)
        return self._count

    def more(self) -> bytes:
        """The whole lines that have come since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _rest = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return whole


@contextmanager
def rig(directory: Path, node: RabbitNode, shape: Shape, disk_size: str = "64m") -> Iterator[Rig]:
    """A running daemon on `node`, ready for a ride; only the node is left when it is over."""
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(directory / "state", disk_size))
        proxy = stack.enter_context(running_proxy(node.port))
        daemon = ChaosDaemon(directory, node, proxy, shape)
        stack.callback(daemon.forget_queues)
        if shape.classic_delays:
            _make_classic_delay_queue(daemon, shape.delay_s)
        stack.enter_context(cleaned_up(daemon, start=True))
        node.keep_queues()
        yield Rig(node, proxy, daemon, disk)


def _make_classic_delay_queue(daemon: ChaosDaemon, delay_s: float) -> None:
    """Before the daemon makes a better one."""
    arguments = {
        "x-message-ttl": round(delay_s * 1000),
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": daemon.queue,
    }
    with daemon.node.channel() as channel:
        channel.queue_declare(daemon.delay_queue, durable=True, arguments=arguments)
