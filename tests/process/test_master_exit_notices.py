"""An exit notice lets a message run again: it leaves only after the record, and is repeated until it was taken."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import pytest

from supervisor.config.schema import BrokerConfig, Config, DaemonConfig, LedgerConfig, LogConfig, PoolConfig
from supervisor.link.frames import ConsumerReport, ExitNotice, ExitNoticeTaken, Frame, Incarnation
from supervisor.logs.events import Cause, Event
from supervisor.master.exits.exit_handler import ExitHandler
from supervisor.master.exits.history import History
from supervisor.master.exits.oom import OomWatch
from supervisor.master.exits.reaper import ReapedChild
from supervisor.master.pool.adoption import enter
from supervisor.master.pool.children import Children, Kind
from supervisor.master.pool.consumer_channel import EXIT_NOTICE_AGAIN_S
from supervisor.master.pool.exit_records import ExitRecord
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.reports import CONSUMER_REPORTS
from supervisor.master.pool.wire import Wire
from supervisor.scoreboard.words import Intent
from supervisor.system.reactor import Reactor

WORKER = Incarnation(0, 7)
RECORD = ExitRecord(
    at="2026-01-01T00:00:00.000Z",
    event=Event.WORKER_EXITED,
    kind=Kind.WORKER,
    pool="email",
    slot=0,
    pid=4711,
    generation=7,
    cause=Cause.CRASH,
    signal="SIGSEGV",
)


class EavesdroppedWire(Wire):
    """A real channel to a consumer; what is sent is kept, with the size of the exit history at that moment."""

    def __init__(self, sock: socket.socket, reactor: Reactor, journal: Path) -> None:
        super().__init__(sock, ConsumerReport, reactor, lambda frame: None, lambda reason: None)
        self.journal = journal
        self.heard: list[tuple[Frame, int]] = []

    def send(self, *frames: Frame) -> None:
        self.heard += [(frame, self.journal.stat().st_size) for frame in frames]


class EavesdroppedPool(Pool):
    """A real pool whose consumer is the test."""

    wire: EavesdroppedWire

    @property
    def heard(self) -> list[tuple[Frame, int]]:
        """What was sent to the consumer."""
        return self.wire.heard


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[EavesdroppedPool]:
    settings = PoolConfig(name="email", queue="email", handler="m:f", workers=1)
    daemon = DaemonConfig(state_dir=str(tmp_path), runtime_dir=str(tmp_path))
    config = Config("", daemon, LogConfig(), BrokerConfig(), LedgerConfig(), {"email": settings})
    pool, reactor = EavesdroppedPool(config, settings, Children(), 0), Reactor()
    ours, theirs = socket.socketpair()
    with theirs:
        pool.wire = EavesdroppedWire(ours, reactor, tmp_path / "exits.jsonl")
        pool.consumer_channel.open(pool.wire)
        yield pool
        pool.wire.close()
    pool.close()
    reactor.close()


@pytest.fixture
def exit_handler(tmp_path: Path, pool: Pool) -> Iterator[ExitHandler]:
    history = History(tmp_path)
    yield ExitHandler({"email": pool}, history, OomWatch(None), {}, lambda record: None)
    history.close()


def test_the_record_is_written_before_the_exit_notice_leaves(exit_handler: ExitHandler, pool: EavesdroppedPool) -> None:
    exit_handler.publish([RECORD])
    ((exit_notice, journal_bytes),) = pool.heard
    assert exit_notice == ExitNotice(WORKER, "crash", None, "SIGSEGV", "")
    assert journal_bytes > 0


def test_a_replacement_is_ordered_after_the_exit_notice_and_before_the_death_is_logged(
    tmp_path: Path, pool: EavesdroppedPool, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(tmp_path)
    told: list[tuple[list[Frame], int]] = []

    def replace() -> None:
        told.append(([frame for frame, _bytes in pool.heard], len(caplog.records)))

    exit_handler = ExitHandler({"email": pool}, history, OomWatch(None), {}, lambda record: None, replace)
    child = enter(pool, pool.workers[0], os.getpid(), 7, 0.0)
    caplog.set_level("INFO")
    exit_handler.register([ReapedChild(child, signal.SIGKILL, getrusage(RUSAGE_SELF), 1.0)])
    assert told == [([ExitNotice(WORKER, "killed", None, "SIGKILL", "")], 0)]
    assert len(caplog.records) == 1
    history.close()


def test_a_consumer_that_a_reload_had_to_kill_is_replaced_at_once(
    tmp_path: Path, exit_handler: ExitHandler, pool: EavesdroppedPool
) -> None:
    child = enter(pool, pool.consumer, os.getpid(), 8, 0.0)
    child.mark(Intent.STOP_KILL, "reload")
    exit_handler.register([ReapedChild(child, signal.SIGKILL, getrusage(RUSAGE_SELF), 1.0)])
    assert (pool.consumer.child, pool.consumer.due_s) == (None, 1.0)


def test_an_exit_notice_is_repeated_until_it_was_taken(exit_handler: ExitHandler, pool: EavesdroppedPool) -> None:
    exit_handler.publish([RECORD])
    pool.flush(100.0)
    pool.flush(100.0 + EXIT_NOTICE_AGAIN_S / 2)
    assert len(pool.heard) == 1, "not before it is time"
    pool.flush(100.0 + EXIT_NOTICE_AGAIN_S)
    pool.flush(100.0 + 2 * EXIT_NOTICE_AGAIN_S)
    assert len(pool.heard) == 3
    CONSUMER_REPORTS[ExitNoticeTaken](pool, pool.consumer, ExitNoticeTaken(WORKER))
    pool.flush(100.0 + 5 * EXIT_NOTICE_AGAIN_S)
    assert len(pool.heard) == 3


def test_a_death_of_another_process_than_a_worker_has_no_exit_notice(
    exit_handler: ExitHandler, pool: EavesdroppedPool
) -> None:
    exit_handler.publish(
        [
            ExitRecord(
                at=RECORD.at,
                event=Event.CONSUMER_EXITED,
                kind=Kind.CONSUMER,
                pool="email",
                slot=None,
                pid=4712,
                generation=8,
                cause=Cause.KILLED,
            )
        ]
    )
    assert pool.heard == []
