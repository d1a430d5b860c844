"""The consumer's session on a real ledger, real sockets and the embedded queue: recovery, and who may join."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.consumer import loop, session
from supervisor.consumer.loop import Consumer
from supervisor.errors import LedgerError
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import ConsumerOrder, ConsumerReport, Consuming, Welcome
from supervisor.messages.identity import content_digest, message_key
from supervisor.messages.message import Properties, Publication
from supervisor.messages.transport_headers import transport_before
from supervisor.system import posix
from supervisor.system.clock import boottime_s, wall_s
from tests.support.ledgers import named
from tests.support.sessions import Bench, W, a_start, connected, living
from tests.support.waiting import eventually


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_rows_carry_the_time_of_their_turn(bench: Bench) -> None:
    """Eviction goes by it: with the time of the start, ids would be forgotten before their time (I2)."""
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.session.settlement.decisions.now_s = 0.0
    bench.turn()
    bench.end_a_run()
    bench.session.pipeline.turn()
    (row,) = named(bench.ledger, "m")
    assert abs(wall_s() - row.at_s) < 60


def test_times_on_record_are_shown_as_the_ledger_has_them_while_no_clock_was_set(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.session.open(set(), consume=True)
    for late_s in (0.0, 0.0004, 0.0011):
        monkeypatch.setattr(session, "wall_s", lambda late_s=late_s: wall_s() + late_s)
        bench.turn()
        assert bench.session.settlement.ahead_s == 0.0

    monkeypatch.setattr(session, "wall_s", lambda: wall_s() + 3600.0)
    bench.turn()
    assert bench.session.settlement.ahead_s == pytest.approx(3600.0, abs=1.0)


def test_a_session_opened_during_a_pause_takes_nothing_until_it_is_resumed(bench: Bench) -> None:
    bench.session.open(set(), consume=False)

    def connected() -> bool:
        bench.turn()
        return bench.session.observer.health.connected

    eventually(connected, "the queue is open")
    for _ in range(20):
        bench.turn()
    assert bench.session.observer.measures.counters.get("delivered", 0) == 0
    bench.session.resume()
    bench.until_waiting()


def test_the_hello_of_a_dead_worker_assigns_nothing(bench: Bench) -> None:
    """It may be read after the only exit notice of that worker: a message given to it would never come back."""
    bench.session.open(set(), consume=True)
    assert answer_to_hello(bench) == "closed"
    assert W not in bench.session.dispatcher


def test_the_hello_of_a_living_worker_is_welcomed(bench: Bench) -> None:
    bench.session.open({W}, consume=True)
    with living(bench, W):
        assert answer_to_hello(bench) == "welcome"
    assert W in bench.session.dispatcher


TRACED = {"traceparent": "00-a-b-01", "tenant": 7}
FORMER = transport_before(1)


def publish(bench: Bench, headers: dict[str, Any], body: bytes = b"body") -> None:
    with open_admin(BrokerConfig(), bench.directory) as admin:
        properties = Properties(headers=headers, message_id="traced")
        admin.publish([Publication("", "work", properties, body)], 1, lambda total: None)


def counted(bench: Bench, name: str, count: int) -> None:
    def turned() -> bool:
        bench.turn()
        return bench.session.observer.measures.counters.get(name, 0) == count

    eventually(turned, f"{count} are {name}")


def test_a_finished_message_is_known_again_although_its_digest_is_made_otherwise_since_an_upgrade(bench: Bench) -> None:
    digest = content_digest(Properties(headers=TRACED), b"body", FORMER)
    key = message_key("", "work", "traced", digest)
    bench.ledger.submit({key: Row(key, 1, 1, RowState.DONE, 0, 1, wall_s(), "traced")}, {})
    bench.session.open(set(), consume=True)
    publish(bench, TRACED)
    counted(bench, "duplicate", 1)
    publish(bench, TRACED, b"other body")
    counted(bench, "delivered", 3)
    assert [entry.id for entry in bench.session.settlement.assignments.waiting.values()] == ["m", "traced"]


def test_a_run_that_was_under_way_before_an_upgrade_is_attached_to_and_not_run_again(bench: Bench) -> None:
    digest = content_digest(Properties(headers=TRACED), b"body", FORMER)
    key = message_key("", "work", "traced", digest)
    bench.ledger.submit({key: Row(key, 1, 1, RowState.DISPATCHED, W.slot, W.generation, wall_s(), "traced")}, {})
    with living(bench, W):
        bench.session.open({W}, consume=True)
        publish(bench, TRACED)
        counted(bench, "delivered", 2)
        assert [entry.id for entry in bench.session.settlement.assignments.waiting.values()] == ["m"]
        assert bench.session.settlement.entries[key].tags


@pytest.mark.parametrize(("boots", "state"), [(0, RowState.RETURNED), (1, RowState.RETRY_PENDING)])
def test_i4_what_a_lost_worker_had_is_in_doubt_if_it_was_started_before_the_machine_booted(
    bench: Bench, boots: int, state: RowState
) -> None:
    """Its slot has no mark of a run. That proves something only of the present boot."""
    epoch, key = bench.ledger.epoch, message_key("", "work", "m", bytes(8))
    assert bench.slot.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, W.generation)
    row = Row(key, 1, 1, RowState.DISPATCHED, W.slot, W.generation, 1.0, "m", b"", epoch - boots)
    bench.ledger.commit([row], {})
    bench.session.open(set(), consume=True)
    (after,) = bench.ledger.look_up([key])[key]
    assert (after.state, after.epoch) == (state, epoch)


@pytest.mark.parametrize(("state", "left"), [(RowState.DONE, []), (RowState.DISPATCHED, ["m"])])
def test_i3_a_message_whose_claim_the_ledger_refuses_is_not_sent(
    bench: Bench, state: RowState, left: list[str]
) -> None:
    """Another daemon has settled it, which makes it a duplicate here; or has it in hand, and it comes again."""
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.assignments.waiting.values()
    bench.ledger.others[entry.key] = Row(entry.key, 1, 1, state, 0, 1, 0.0, "m", b"", bench.ledger.epoch + 1)
    sent: list[Any] = []
    bench.links.send = lambda worker, frame: sent.append(frame)  # type: ignore[method-assign]
    bench.session.settlement.assignments.assign(entry, W)
    bench.turn()
    bench.turn()
    assert (sent, bench.session.settlement.assignments.workers()) == ([], set())
    assert bench.ledger.look_up([entry.key])[entry.key] == []

    def back() -> bool:
        bench.turn()
        return [entry.id for entry in bench.session.settlement.entries.values()] == left

    eventually(back, "it is acked, or here again")


def test_i3_a_message_is_sent_with_the_time_until_which_the_ledger_lets_it_begin(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_s = boottime_s() + 100.0
    monkeypatch.setattr(SqliteLedger, "begins_until_s", until_s)
    sent: list[Any] = []
    bench.links.send = lambda worker, frame: sent.append(frame)  # type: ignore[method-assign]
    monkeypatch.setattr(bench.session.dispatcher, "places", lambda load: [W])
    bench.session.open(set(), consume=True)

    def given() -> bool:
        bench.reactor.poll(0.01)
        bench.session.turn(bench.session.begin_turn())
        return bool(sent)

    eventually(given, "a worker gets it")
    assert [frame.due_s for frame in sent] == [until_s]


def test_a_publishers_retry_with_another_trace_is_a_duplicate(bench: Bench) -> None:
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    for number in range(3):
        publish(bench, {"tenant": 7, "traceparent": f"00-{number}", "X-B3-TraceId": str(number), "b3": b"0"})
    counted(bench, "delivered", 4)
    assert [entry.id for entry in bench.session.settlement.assignments.waiting.values()] == ["m", "traced"]


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


def test_a_ledger_that_fails_while_a_session_opens_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the failed opening had registered is gone, or the next one would fail of that for ever."""
    failures = iter([LedgerError("the disk fails")])
    counters = SqliteLedger.counters

    def fails_once(ledger: SqliteLedger) -> dict[str, int]:
        for failure in failures:
            raise failure
        return counters(ledger)

    monkeypatch.setattr(SqliteLedger, "counters", fails_once)
    monkeypatch.setattr(loop, "REOPEN_S", (0.01, 0.01))
    monkeypatch.setattr(loop, "LONGEST_SLEEP_S", 0.01)
    ours, theirs = socket.socketpair()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "p.sock"))
    listener.listen()
    consumer = Consumer(a_start(tmp_path), listener, Channel(ours, ConsumerOrder))
    master: Channel[ConsumerReport] = Channel(theirs, ConsumerReport)
    consumer._open(0.01)
    eventually(lambda: (consumer.turn(), Consuming() in master.receive())[1], "it consumes")
    consumer._close()
    for opened in (ours, theirs, listener):
        opened.close()
