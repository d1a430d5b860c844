"""The consumer's session on a real ledger, real sockets and the embedded queue: order of effects, and who may join."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor import posix
from supervisor.brokers import open_admin
from supervisor.clock import wall_s
from supervisor.config.schema import BrokerConfig, LedgerConfig, LogConfig, PoolConfig
from supervisor.consumer import commits, session
from supervisor.consumer.links import WorkerLinks
from supervisor.consumer.session import Session
from supervisor.errors import LedgerError
from supervisor.ledger.base import Row
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import (
    VERSION,
    ConsumerFrame,
    Hello,
    Incarnation,
    Recall,
    Run,
    StartConsumer,
    Verdict,
    Welcome,
)
from supervisor.message import Properties, Publication
from supervisor.reactor import Reactor
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import OutcomeKind
from tests.support.forked import forked
from tests.support.ledgers import named
from tests.support.settling import RAISED
from tests.support.waiting import eventually

W = Incarnation(0, 7)


class WatchedLedger(SqliteLedger):
    """Tells when it commits; fails when asked to; with `busy` the disk is at it until that is taken back."""

    def __init__(self, path: Path, order: list[str]) -> None:
        super().__init__(path, "normal")
        self.order = order
        self.fails = False
        self.busy = False
        self.evictions = 0

    @property
    def durable(self) -> bool:
        return not self.busy and super().durable

    def begin_commit(self, rows: Mapping[bytes, Row], counters: Mapping[str, int]) -> None:
        if self.fails:
            raise LedgerError("the disk is full")
        super().begin_commit(rows, counters)
        self.order.append("commit")

    def evict(self, older_than_s: float, keep_max: int) -> tuple[int, int]:
        self.evictions += 1
        return super().evict(older_than_s, keep_max)


class Bench:
    """A session with one message in its queue and no workers."""

    def __init__(self, directory: Path) -> None:
        pool_dir = directory / "pools" / "p"
        (pool_dir / "slots").mkdir(parents=True)
        self.link_path = str(directory / "p.sock")
        self.slot = Slot(pool_dir / "slots" / "0.slot")
        self.order: list[str] = []
        self.reactor = Reactor()
        self.ledger = WatchedLedger(pool_dir / "ledger.db", self.order)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.link_path)
        self.listener.listen()
        pool, broker = PoolConfig("p", "work", "h:h"), BrokerConfig()
        places = (str(directory), str(pool_dir), self.link_path)
        start = StartConsumer(VERSION, pool, broker, LedgerConfig(), LogConfig(), *places, os.getpid(), [])
        with open_admin(broker, str(directory)) as admin:
            admin.ensure_queue("work")
            admin.publish([Publication("", "work", Properties(message_id="m"), b"")], 1, lambda total: None)
        self.links = WorkerLinks(self.listener, self.reactor)
        self.session = Session(start, self.ledger, self.links, self.reactor)
        acknowledge = self.session.broker.ack

        def ack(epoch: int, tag: int) -> None:
            self.order.append("ack")
            acknowledge(epoch, tag)

        self.session.broker.ack = ack  # type: ignore[method-assign]

    def turn(self) -> None:
        """One turn without dispatch."""
        self.reactor.poll(0.01)
        heard = self.session.begin_turn()
        self.session.carry_out()
        self.session.hear_workers(heard)
        self.session.hear_broker()
        self.session.settle()

    def until_waiting(self) -> None:
        """Turn until the message is here."""

        def turned() -> bool:
            self.turn()
            return bool(self.session.settlement.waiting)

        eventually(turned, "the message is delivered")

    def end_a_run(self) -> None:
        """The message is sent to a worker, which ends it."""
        (entry,) = self.session.settlement.waiting.values()
        self.session.settlement.assign(entry, W)
        self.session.settle()
        self.order.clear()
        self.session.settlement.outcome(W, entry.run, OutcomeKind.DONE, RAISED)

    def close(self) -> None:
        """Give everything back."""
        self.session.close(1.0)
        self.ledger.close()
        self.listener.close()
        self.reactor.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_i1_the_commit_comes_before_the_ack(bench: Bench) -> None:
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.end_a_run()
    bench.session.settle()
    assert bench.order == ["commit", "ack"]


def test_i1_a_failed_commit_acks_nothing(bench: Bench) -> None:
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.end_a_run()
    bench.ledger.fails = True
    with pytest.raises(LedgerError):
        bench.session.settle()
    assert bench.order == []


def test_i1_while_the_disk_is_busy_nothing_is_acked_and_turns_go_on(bench: Bench) -> None:
    """The heartbeat hangs on those turns, whatever the disk does."""
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.end_a_run()
    bench.ledger.busy = True
    for _ in range(5):
        bench.turn()
    assert bench.order == ["commit"]  # one at a time, too
    assert not bench.session.at_rest
    bench.ledger.busy = False
    bench.turn()
    assert bench.order == ["commit", "ack"]
    assert bench.session.at_rest


def test_a_disk_that_hangs_is_not_asked_to_forget_rows_before_it_has_written_what_was_decided(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction may wait for the disk (a checkpoint), and the heartbeat with it."""
    monkeypatch.setattr(session, "EVICT_INTERVAL_S", 0.0)
    monkeypatch.setattr(commits, "SLOW_COMMIT_S", 0.0)
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.end_a_run()
    bench.ledger.busy = True
    bench.turn()
    forgotten = bench.ledger.evictions
    for _ in range(5):
        bench.turn()
    assert bench.ledger.evictions == forgotten
    bench.ledger.busy = False
    eventually(lambda: (bench.turn(), bench.ledger.evictions > forgotten)[1], "eviction goes on")


def test_i1_a_disk_that_fails_after_the_commit_was_written_acks_nothing(bench: Bench) -> None:
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.end_a_run()
    bench.ledger.busy = True
    bench.turn()

    class Failed(WatchedLedger):
        @property
        def durable(self) -> bool:
            raise LedgerError("the disk fails")

    bench.ledger.__class__ = Failed
    with pytest.raises(LedgerError):
        bench.session.settle()
    bench.ledger.__class__ = WatchedLedger
    assert "ack" not in bench.order


def test_a_verdict_counts_as_taken_only_when_its_turn_is_durable(bench: Bench) -> None:
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.waiting.values()
    bench.session.settlement.assign(entry, W)
    bench.session.settle()
    bench.ledger.busy = True
    bench.session.hear_verdict(Verdict(W, "crash", 70, None, ""))
    bench.turn()
    assert bench.session.take_verdicts() == []
    bench.ledger.busy = False
    bench.turn()
    assert bench.session.take_verdicts() == [W]
    assert bench.session.take_verdicts() == []


def test_a_verdict_repeated_in_every_commit_of_a_slow_disk_is_taken_all_the_same(bench: Bench) -> None:
    """The master repeats it every second; each time it waited anew, it would never be taken, and a stop would wait."""
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    verdict = Verdict(W, "crash", 70, None, "")
    bench.ledger.busy = True
    bench.session.settle()
    bench.session.hear_verdict(verdict)
    bench.ledger.busy = False
    bench.session.settle()
    bench.session.hear_verdict(verdict)
    assert bench.session.take_verdicts() == [W]


def test_i3_a_run_on_its_way_to_the_disk_is_not_sent_to_a_worker_that_said_hello_without_it(bench: Bench) -> None:
    """Its hello took the message from it: somebody else may have it by now."""
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.waiting.values()
    with living(bench, W):
        bench.ledger.busy = True
        bench.session.settlement.assign(entry, W)
        bench.session.settle()
        with connected(bench) as channel:
            eventually(lambda: (bench.turn(), bool(bench.session.settlement.waiting))[1], "the hello is heard")
            bench.ledger.busy = False
            frames = eventually(lambda: (bench.turn(), channel.receive())[1], "an answer")
            assert frames == [Welcome()]
    assert entry.owner is None


def test_i3_a_run_that_becomes_durable_as_a_hello_is_read_is_not_sent_either(bench: Bench) -> None:
    """The hello was read before, so the run came after all that the worker said it holds."""
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.waiting.values()
    with living(bench, W):
        bench.ledger.busy = True
        bench.session.settlement.assign(entry, W)
        bench.session.settle()
        with connected(bench) as channel:
            eventually(lambda: (bench.reactor.poll(0.01), bench.links.inbox)[1], "the hello is read")
            bench.ledger.busy = False
            frames = eventually(lambda: (bench.turn(), channel.receive())[1], "an answer")
            assert frames == [Welcome()]
    assert entry.owner is None


def test_i3_a_run_that_waits_for_the_disk_behind_another_commit_is_withdrawn_by_a_hello_without_it(
    bench: Bench,
) -> None:
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.waiting.values()
    with living(bench, W):
        bench.ledger.busy = True
        bench.session.settle()
        bench.session.settlement.assign(entry, W)
        with connected(bench) as channel:
            eventually(lambda: (bench.turn(), bool(bench.session.settlement.waiting))[1], "the hello is heard")
            bench.ledger.busy = False
            frames = eventually(lambda: (bench.turn(), channel.receive())[1], "an answer")
            assert frames == [Welcome()]
    assert entry.owner is None


def test_a_recall_follows_what_was_decided_before_it_though_the_disk_is_busy(bench: Bench) -> None:
    """Overtaken by it, the run would begin after everything was called back."""
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.waiting.values()
    with living(bench, W), connected(bench) as channel:
        assert eventually(lambda: (bench.turn(), channel.receive())[1], "a welcome") == [Welcome()]
        bench.ledger.busy = True
        bench.session.settle()
        bench.session.settlement.assign(entry, W)
        bench.session.drain()
        bench.turn()
        bench.ledger.busy = False
        frames: list[ConsumerFrame] = []
        eventually(lambda: (bench.turn(), frames.extend(channel.receive()), len(frames) == 2)[2], "run and recall")
        assert [type(frame) for frame in frames] == [Run, Recall]


def test_rows_carry_the_time_of_their_turn(bench: Bench) -> None:
    """Eviction goes by it: with the time of the start, ids would be forgotten before their time (I2)."""
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.session.settlement.now_s = 0.0
    bench.turn()
    bench.end_a_run()
    bench.session.settle()
    (row,) = named(bench.ledger, "m")
    assert abs(wall_s() - row.at_s) < 60


def test_a_session_opened_during_a_pause_takes_nothing_until_it_is_resumed(bench: Bench) -> None:
    bench.session.open(set(), consume=False)

    def connected() -> bool:
        bench.turn()
        return bench.session.connected

    eventually(connected, "the queue is open")
    for _ in range(20):
        bench.turn()
    assert bench.session.commits.counters.get("delivered", 0) == 0
    bench.session.resume()
    bench.until_waiting()


def test_the_hello_of_a_dead_worker_puts_nobody_to_work(bench: Bench) -> None:
    """It may be read after the only verdict on that worker: what it were given would never come back."""
    bench.session.open(set(), consume=True)
    assert answer_to_hello(bench) == "closed"
    assert W not in bench.session.dispatcher


def test_the_hello_of_a_living_worker_is_welcomed(bench: Bench) -> None:
    bench.session.open({W}, consume=True)
    with living(bench, W):
        assert answer_to_hello(bench) == "welcome"
    assert W in bench.session.dispatcher


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


def answer_to_hello(bench: Bench) -> str:
    """ "welcome" or "closed"."""
    with connected(bench) as channel:

        def answer() -> str:
            bench.turn()
            try:
                return "welcome" if Welcome() in channel.receive() else ""
            except ChannelClosed:
                return "closed"

        return eventually(answer, "an answer to the hello")
