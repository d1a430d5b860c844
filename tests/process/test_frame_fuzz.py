"""Whatever a child sends, its receiver goes on: spoiled frames of every language against the handlers that take them.

PREFORKD_SOAK=<number> sends a hundred times as many, drawn from that number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.config.schema import (
    BrokerConfig,
    Config,
    DaemonConfig,
    HooksConfig,
    LedgerConfig,
    LogConfig,
    PoolConfig,
)
from supervisor.control.protocol import answer_line
from supervisor.link import frames
from supervisor.link.channel import Channel
from supervisor.link.frames import Hello, Incarnation, WorkerFrame
from supervisor.master.control import status
from supervisor.master.exits.history import History
from supervisor.master.pool.children import Child, Children, ChildSpec, Kind
from supervisor.master.pool.exit_records import NOT_UNDERSTOOD
from supervisor.master.pool.pools import Pools
from supervisor.master.pool.reports import CONSUMER_REPORTS, FORK_REPORTS, Reports, end_misunderstood, hear_readiness
from supervisor.master.pool.state import pool_state
from supervisor.master.pool.wire import Wire
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.master.stop.stopping import DaemonStop
from supervisor.master.stop.terminations import Terminations
from supervisor.scoreboard.words import Intent
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor
from tests.support.descriptors import readable
from tests.support.forked import forked
from tests.support.frame_fuzz import FrameFuzz, framed
from tests.support.sessions import Bench, W, living

SOAK = os.environ.get("PREFORKD_SOAK", "")
SEED = int(SOAK or 1)
LIVES = 3000 if SOAK else 100
"""How often a child is made that talks until it is ended."""

PAYLOADS = 40


class Books:
    """A pool and sidecars as the master has them, with no process in them but those of the test."""

    def __init__(self, directory: Path) -> None:
        settings = PoolConfig(name="mail", queue="mail", handler="m:f", workers=2)
        daemon = DaemonConfig(state_dir=str(directory), runtime_dir=str(directory))
        hooks = HooksConfig(on_dead="true")
        config = Config("", daemon, LogConfig(), BrokerConfig(), LedgerConfig(), {"mail": settings}, hooks=hooks)
        self.reactor = Reactor()
        self.children = Children()
        self.history = History(directory)
        self.pools = Pools(config, self.children, self.history.youngest, self.reactor)
        self.pool = self.pools["mail"]
        named = (self.history, self.children, self.reactor, Terminations(self.children))
        self.sidecars = Sidecars(self.pools, DaemonStop(self.pools, self.children), *named)
        self.sidecars.follow_config(config, monotonic_s())

    def close(self) -> None:
        self.pools.close()
        self.history.close()
        self.reactor.close()

    def join(self, spec: ChildSpec, pid: int, receives: Any, reports: Reports) -> tuple[Child, Wire, socket.socket]:
        """Give this child spec a process; comes with its end of the channel."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        child = Child("mail", spec.kind, None, pid, posix.start_ticks(pid) or 0, 1, monotonic_s())
        spec.child = child
        wire = Wire(
            ours,
            receives,
            self.reactor,
            lambda frame: reports[type(frame)](self.pool, spec, frame),
            lambda reason: end_misunderstood(child, reason),
        )
        child.connect(wire)
        self.pool.services = {pid: child}
        if spec.kind is Kind.CONSUMER:
            self.pool.consumer_channel.open(wire)
        return child, wire, theirs

    def turn(self) -> None:
        """What the master does with what it has heard, without starting anybody."""
        self.reactor.poll(0.0)
        state = pool_state(self.pool, stopping=False)
        assert answer_line(status.pool_status(self.pool, state, monotonic_s()))
        status.pool_facts(self.pool, state, [])
        self.pool.flush(monotonic_s())
        self.sidecars.turn(monotonic_s())


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path)
    yield made
    made.close()


def send_all(sock: socket.socket, data: bytes, turn: Callable[[], None], listens: Callable[[], bool]) -> None:
    """Send, turning the receiver when the socket is full; frames without a reader are left."""
    view = memoryview(data)
    while view and listens():
        with contextlib.suppress(BlockingIOError):
            view = view[sock.send(view) :]
        turn()
    turn()


@pytest.mark.parametrize(
    ("kind", "receives", "reports"),
    [(Kind.FORKSERVER, frames.ForkReport, FORK_REPORTS), (Kind.CONSUMER, frames.ConsumerReport, CONSUMER_REPORTS)],
)
def test_whatever_a_child_says_the_master_goes_on_and_ends_only_who_said_it(
    books: Books, kind: Kind, receives: Any, reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, slowest_s = 0, 0.0
    for life in range(LIVES):
        spec = books.pool.consumer if kind is Kind.CONSUMER else books.pool.forkserver
        with forked(signal.pause) as pid:
            child, wire, said = books.join(spec, pid, receives, reports)
            for payload in FrameFuzz(receives, SEED * 1_000_003 + life).payloads(PAYLOADS):
                began_s = time.process_time()
                send_all(said, payload, books.turn, lambda child=child: child.intent is Intent.NONE)  # type: ignore[misc]
                slowest_s = max(slowest_s, time.process_time() - began_s)
            if child.intent is Intent.PROTOCOL_KILL:
                _, how = os.waitpid(pid, 0)
                assert os.WTERMSIG(how) == signal.SIGKILL
                assert child.requested_by.startswith(NOT_UNDERSTOOD + ": "), child.requested_by
                ended += 1
            wire.close()
            said.close()
            spec.child = None
            books.pool.services = {}
    with capsys.disabled():
        if SOAK:
            print(f"\n{kind}: {LIVES} lives, {ended} ended, slowest payload {slowest_s:.3f} s of processor time")  # noqa: T201
    assert ended > LIVES // 2
    assert slowest_s < 5.0


def test_whatever_a_sidecar_says_the_master_goes_on(books: Books) -> None:
    sidecar = books.sidecars.by_kind[Kind.HOOKS]
    for life in range(LIVES):
        ours, said = socket.socketpair()
        refused: list[str] = []
        wire = Wire(
            ours,
            frames.SidecarReport,
            books.reactor,
            sidecar.hear,
            refused.append,
        )
        said.setblocking(False)
        for payload in FrameFuzz(frames.SidecarReport, SEED * 7919 + life).payloads(PAYLOADS):
            send_all(said, payload, books.turn, lambda refused=refused: not refused)  # type: ignore[misc]
        wire.close()
        said.close()
        assert len(refused) <= 1


@pytest.mark.parametrize(
    "frame",
    [
        ["ForkFailed", 10_000, 1, "EAGAIN"],
        ["Forked", 10_000, 1, 7],
        ["Forked", -1, 1, 7],
        ["ForkFailed", -1, 1, "EAGAIN"],
        ["Forked", 4711, 3, 0],
    ],
)
def test_a_slot_that_does_not_exist_moves_no_other_child(books: Books, frame: list[Any]) -> None:
    specs = [(spec.ordered, spec.due_s, spec.deaths, spec.child) for spec in books.pool.workers]
    with forked(signal.pause) as pid:
        _, wire, said = books.join(books.pool.forkserver, pid, frames.ForkReport, FORK_REPORTS)
        said.send(framed(frame))
        books.turn()
        wire.close()
        said.close()
    assert [(spec.ordered, spec.due_s, spec.deaths, spec.child) for spec in books.pool.workers] == specs


def test_a_snapshot_that_no_status_can_be_drawn_from_is_not_taken(books: Books) -> None:
    good = ["Snapshot", 1.0, {"state": "connected"}, {"ready": 1}, {"done": 5}, 0, [], {}]
    for at, wrong in (
        (1, float("nan")),
        (2, {"state": ["connected"]}),
        (5, -1),
        (4, []),
        (2, {"why": 7}),
        (3, {"ready": "many"}),
    ):
        with forked(signal.pause) as pid:
            child, wire, said = books.join(books.pool.consumer, pid, frames.ConsumerReport, CONSUMER_REPORTS)
            said.send(framed(good) + framed([*good[:at], wrong, *good[at + 1 :]]))
            books.turn()
            wire.close()
            said.close()
        assert books.pool.consumer_channel.snapshot is not None
        assert books.pool.consumer_channel.snapshot.connection.state == "connected"
        assert child.intent is Intent.PROTOCOL_KILL
        assert "Snapshot" in child.requested_by


def test_what_came_before_a_frame_that_cannot_be_read_is_heard(books: Books) -> None:
    with forked(signal.pause) as pid:
        child, wire, said = books.join(books.pool.consumer, pid, frames.ConsumerReport, CONSUMER_REPORTS)
        said.send(framed(["Consuming"]) + framed(["Consuming", "and", "more", 7, {}]) + framed(["Nonsense"]))
        for _ in range(3):
            books.turn()
        assert books.pool.consumer.ready
        assert child.intent is Intent.PROTOCOL_KILL
        wire.close()
        said.close()


def test_a_child_that_never_stops_writing_does_not_keep_the_master_from_its_turn(books: Books) -> None:
    """Read is a bounded piece in each pass, although there is always more."""

    def flood() -> None:
        piece = framed(["ExitNoticeTaken", [0, 1]]) * 10_000
        while True:
            flooding.sendall(piece)

    ours, flooding = socket.socketpair()
    with forked(flood):
        heard: list[Any] = []
        wire = Wire(ours, frames.ConsumerReport, books.reactor, heard.append, lambda reason: None)
        readable(ours, within_s=20)
        before = len(heard)
        books.reactor.poll(0.0)
        assert 0 < (len(heard) - before) * len(framed(["ExitNoticeTaken", [0, 1]])) <= 2 * Wire.read_at_once_bytes
        wire._watch.want(0)
    ours.close()
    flooding.close()


@pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 4096])
def test_whatever_is_written_to_the_readiness_pipe_the_master_goes_on(books: Books, size: int) -> None:
    for number in range(LIVES):
        os.write(
            books.pool.endpoints.readiness_write,
            (number * 2_654_435_761 % 2**64).to_bytes(8, "little") * (size // 8 + 1),
        )
        os.write(books.pool.endpoints.readiness_write, struct.pack("<II", 2**32 - 1, number)[:size])
        hear_readiness(books.pool)
        books.turn()


# ---- worker -> consumer -------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def greeting(worker: Incarnation = W, pid: int = 0) -> bytes:
    return framed(["Hello", frames.VERSION, worker.slot, worker.generation, pid or os.getpid(), []])


def connect(bench: Bench) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(bench.link_path)
    sock.setblocking(False)
    return sock


def test_whatever_a_worker_says_its_consumer_goes_on_and_names_it(bench: Bench) -> None:
    bench.session.open(set(), consume=True)
    told = 0
    with living(bench, W):
        for life in range(LIVES):
            with connect(bench) as said:
                said.send(greeting())
                bench.turn()
                bench.turn()
                assert W in bench.links.greeted
                for payload in FrameFuzz(WorkerFrame, SEED * 104_729 + life).payloads(PAYLOADS):
                    with contextlib.suppress(ConnectionError):
                        send_all(said, payload, lambda: bench.turn(0.0), lambda: W in bench.links.greeted)
                refusals = bench.links.take_misunderstood()
                assert [(each.worker, each.pid) for each in refusals] in ([], [(W, os.getpid())])
                told += len(refusals)
    assert told > LIVES // 2


def test_whatever_comes_before_a_hello_the_consumer_goes_on(bench: Bench) -> None:
    for life in range(LIVES):
        with connect(bench) as said:
            for payload in FrameFuzz(WorkerFrame, SEED * 611_953 + life).payloads(3):
                with contextlib.suppress(ConnectionError, BlockingIOError):
                    said.send(payload)
                bench.turn()
    assert not bench.links.take_misunderstood()


def test_a_hello_in_the_name_of_another_process_is_turned_away(bench: Bench) -> None:
    with living(bench, W) as _, connect(bench) as said:
        said.send(greeting(pid=os.getppid()))
        bench.turn()
        bench.turn()
        assert not bench.links.greeted


@pytest.mark.parametrize("worker", [Incarnation(99, 7), Incarnation(0, 8), Incarnation(2**32 - 1, 1)])
def test_a_hello_of_a_slot_or_generation_that_there_is_not_is_turned_away(bench: Bench, worker: Incarnation) -> None:
    with living(bench, W), connect(bench) as said:
        said.send(greeting(worker))
        bench.turn()
        bench.turn()
        assert not bench.links.greeted


def test_another_worker_is_heard_while_one_talks_nonsense(bench: Bench) -> None:
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    with connect(bench) as nonsense, living(bench, W):
        nonsense.send(framed(["Hello", frames.VERSION, 5, 1, os.getpid(), []]) + framed([["Outcome"]]))
        channel: Channel[Any] = Channel(connect(bench), frames.ConsumerFrame)
        channel.send(Hello(frames.VERSION, W.slot, W.generation, os.getpid(), []))
        channel.flush()
        for _ in range(5):
            bench.turn()
        assert list(bench.links.greeted) == [W]
        channel.close()
