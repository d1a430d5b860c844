"""A consumer's session on a real ledger, real sockets and the embedded queue, turned by hand; workers to join it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig, LedgerConfig, LogConfig, PoolConfig
from supervisor.consumer.session import Session
from supervisor.errors import LedgerError
from supervisor.ledger.base import Result, Rival, Row
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.link.channel import Channel
from supervisor.link.frames import VERSION, ConsumerFrame, Hello, Incarnation, StartConsumer
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import OutcomeKind
from supervisor.system import posix
from supervisor.system.reactor import Reactor
from tests.support.forked import forked
from tests.support.settling import RAISED
from tests.support.waiting import eventually

W = Incarnation(0, 7)


class WatchedLedger(SqliteLedger):
    """Tells when it commits; fails when asked to; with `busy` the disk syncs until that is taken back."""

    def __init__(self, path: Path, order: list[str]) -> None:
        self.order = order
        self.fails = False
        self.busy = False
        self.evictions = 0
        self.others: dict[bytes, Row] = {}  # another owner's rows: what is in their way is refused
        self._refused: dict[bytes, Rival] = {}
        super().__init__(path, "normal")

    def results(self) -> Result | None:
        if self.busy or super().results() is None:
            return None
        return Result(self._refused)

    def submit(self, rows: Mapping[bytes, Row], counters: Mapping[str, int]) -> None:
        if self.fails:
            raise LedgerError("the disk is full")
        self._refused = {key: Rival(self.others[key]) for key in rows if key in self.others}
        super().submit({key: row for key, row in rows.items() if key not in self._refused}, counters)
        self.order.append("commit")

    def evict(self, older_than_s: float, keep_max: int) -> tuple[int, int]:
        self.evictions += 1
        return super().evict(older_than_s, keep_max)


def a_start(directory: Path) -> StartConsumer:
    """What the consumer of a pool "p" on the embedded queue "work" is started with; its folders are made."""
    pool_dir = directory / "pools" / "p"
    (pool_dir / "slots").mkdir(parents=True)
    (pool_dir / "stacks").mkdir()
    places = (str(directory), str(pool_dir), str(directory / "p.sock"))
    pool, broker = PoolConfig("p", "work", "h:h"), BrokerConfig()
    return StartConsumer(VERSION, pool, broker, LedgerConfig(), LogConfig(), *places, os.getpid(), [])


class Bench:
    """A session with one message in its queue and no workers."""

    def __init__(self, directory: Path) -> None:
        start = a_start(directory)
        pool_dir = Path(start.pool_dir)
        self.directory = str(directory)
        self.link_path = str(directory / "p.sock")
        self.slot = Slot(pool_dir / "slots" / "0.slot")
        self.order: list[str] = []
        self.reactor = Reactor()
        self.ledger = WatchedLedger(pool_dir / "ledger.db", self.order)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.link_path)
        self.listener.listen()
        with open_admin(start.broker, str(directory)) as admin:
            admin.ensure_queue("work")
            admin.publish([Publication("", "work", Properties(message_id="m"), b"")], 1, lambda total: None)
        self.session = Session(start, self.ledger, self.listener, self.reactor)
        self.links = self.session.links
        acknowledge = self.session.broker.ack

        def ack(epoch: int, tag: int) -> None:
            self.order.append("ack")
            acknowledge(epoch, tag)

        self.session.broker.ack = ack  # type: ignore[method-assign]

    def turn(self, wait_s: float = 0.01) -> None:
        """One turn without dispatch."""
        self.reactor.poll(wait_s)
        self.session.worker_hearing.hear(self.session.begin_turn())
        self.session.broker_hearing.hear()
        self.session.pipeline.turn()

    def until_waiting(self) -> None:
        """Turn until the message is here."""

        def turned() -> bool:
            self.turn()
            return bool(self.session.settlement.assignments.waiting)

        eventually(turned, "the message is delivered")

    def end_a_run(self) -> None:
        """The message is sent to a worker, which ends it."""
        (entry,) = self.session.settlement.assignments.waiting.values()
        self.session.settlement.assignments.assign(entry, W)
        self.session.pipeline.turn()
        self.order.clear()
        self.session.settlement.outcome(W, entry.run, OutcomeKind.DONE, RAISED)

    def close(self) -> None:
        """Give everything back."""
        self.session.close(1.0)
        self.ledger.close()
        self.listener.close()
        self.reactor.close()


@contextmanager
def living(bench: Bench, worker: Incarnation) -> Iterator[None]:
    """A process that has this worker's slot."""
    taken_read, taken_write = os.pipe()

    def live() -> None:
        slot = Slot(bench.slot.path)  # kept: its lock goes with it
        slot.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, worker.generation)
        os.write(taken_write, b"1")
        signal.pause()

    try:
        with forked(live):
            os.read(taken_read, 1)
            yield
    finally:
        os.close(taken_read)
        os.close(taken_write)


@contextmanager
def connected(bench: Bench) -> Iterator[Channel[ConsumerFrame]]:
    """A link over a real socket, on which W has said hello with empty hands."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(bench.link_path)
    channel: Channel[ConsumerFrame] = Channel(sock, ConsumerFrame)
    channel.send(Hello(VERSION, W.slot, W.generation, os.getpid(), []))
    channel.flush()
    try:
        yield channel
    finally:
        channel.close()
