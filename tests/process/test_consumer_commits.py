"""What waits for the consumer's commits, and what is withdrawn meanwhile: real ledger, sockets and embedded queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.consumer import housekeeping, session
from supervisor.consumer.turn import commit_pipeline
from supervisor.errors import LedgerError
from supervisor.ledger.base import Result
from supervisor.link.channel import Channel
from supervisor.link.frames import ConsumerFrame, ExitNotice, Recall, Run, Welcome
from tests.support.sessions import Bench, W, WatchedLedger, connected, living
from tests.support.waiting import eventually


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_i1_the_commit_comes_before_the_ack(bench: Bench) -> None:
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.end_a_run()
    bench.session.pipeline.turn()
    assert bench.order == ["commit", "ack"]


def test_i1_a_failed_commit_acks_nothing(bench: Bench) -> None:
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.end_a_run()
    bench.ledger.fails = True
    with pytest.raises(LedgerError):
        bench.session.pipeline.turn()
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
    monkeypatch.setattr(housekeeping, "EVICT_INTERVAL_S", 0.0)
    monkeypatch.setattr(session, "EVICT_INTERVAL_S", 0.0)
    monkeypatch.setattr(commit_pipeline, "SLOW_COMMIT_S", 0.0)
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
        def results(self) -> Result | None:
            raise LedgerError("the disk fails")

    bench.ledger.__class__ = Failed
    with pytest.raises(LedgerError):
        bench.session.pipeline.turn()
    bench.ledger.__class__ = WatchedLedger
    assert "ack" not in bench.order


def test_an_exit_notice_counts_as_taken_only_when_its_turn_is_durable(bench: Bench) -> None:
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.assignments.waiting.values()
    bench.session.settlement.assignments.assign(entry, W)
    bench.session.pipeline.turn()
    bench.ledger.busy = True
    bench.session.hear_exit_notice(ExitNotice(W, "crash", 70, None, ""))
    bench.turn()
    assert bench.session.pipeline.take_exit_notices() == []
    bench.ledger.busy = False
    bench.turn()
    assert bench.session.pipeline.take_exit_notices() == [W]
    assert bench.session.pipeline.take_exit_notices() == []


def test_an_exit_notice_repeated_in_every_commit_of_a_slow_disk_is_taken_all_the_same(bench: Bench) -> None:
    """The master repeats it each second. Were the wait to begin again each time, a stop would wait for ever."""
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    exit_notice = ExitNotice(W, "crash", 70, None, "")
    bench.ledger.busy = True
    bench.session.pipeline.turn()
    bench.session.hear_exit_notice(exit_notice)
    bench.ledger.busy = False
    bench.session.pipeline.turn()
    bench.session.hear_exit_notice(exit_notice)
    assert bench.session.pipeline.take_exit_notices() == [W]


def once_the_disk_is_done(bench: Bench, channel: Channel[ConsumerFrame]) -> list[ConsumerFrame]:
    """The first that a worker hears then."""
    bench.ledger.busy = False
    return eventually(lambda: (bench.turn(), channel.receive())[1], "an answer")


def test_i3_a_run_on_its_way_to_the_disk_is_not_sent_to_a_worker_that_said_hello_without_it(bench: Bench) -> None:
    """Its hello took the message from it: another worker may have it by now."""
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.assignments.waiting.values()
    with living(bench, W):
        bench.ledger.busy = True
        bench.session.settlement.assignments.assign(entry, W)
        bench.session.pipeline.turn()
        with connected(bench) as channel:
            eventually(
                lambda: (bench.turn(), bool(bench.session.settlement.assignments.waiting))[1], "the hello is heard"
            )
            assert once_the_disk_is_done(bench, channel) == [Welcome()]
    assert entry.owner is None


def test_i3_a_run_that_becomes_durable_as_a_hello_is_read_is_not_sent_either(bench: Bench) -> None:
    """The hello was read before, so the run came after all that the worker said it holds."""
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.assignments.waiting.values()
    with living(bench, W):
        bench.ledger.busy = True
        bench.session.settlement.assignments.assign(entry, W)
        bench.session.pipeline.turn()
        with connected(bench) as channel:
            eventually(lambda: (bench.reactor.poll(0.01), bench.links.inbox)[1], "the hello is read")
            assert once_the_disk_is_done(bench, channel) == [Welcome()]
    assert entry.owner is None


def test_i3_a_run_that_waits_for_the_disk_behind_another_commit_is_withdrawn_by_a_hello_without_it(
    bench: Bench,
) -> None:
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.assignments.waiting.values()
    with living(bench, W):
        bench.ledger.busy = True
        bench.session.pipeline.turn()
        bench.session.settlement.assignments.assign(entry, W)
        with connected(bench) as channel:
            eventually(
                lambda: (bench.turn(), bool(bench.session.settlement.assignments.waiting))[1], "the hello is heard"
            )
            assert once_the_disk_is_done(bench, channel) == [Welcome()]
    assert entry.owner is None


def test_an_ack_that_becomes_due_as_its_connection_ends_is_never_sent(bench: Bench) -> None:
    """Sent after the end was read, it would be dropped as void, and a message without an id would be run again."""
    bench.session.open(set(), consume=True)
    bench.until_waiting()
    bench.end_a_run()
    bench.ledger.busy = True
    bench.turn()
    bench.session.broker.cut()
    bench.ledger.busy = False
    bench.turn()
    assert bench.order == ["commit"]


def test_a_recall_follows_what_was_decided_before_it_though_the_disk_is_busy(bench: Bench) -> None:
    """Overtaken by it, the run would begin after everything was called back."""
    bench.session.open({W}, consume=True)
    bench.until_waiting()
    (entry,) = bench.session.settlement.assignments.waiting.values()
    with living(bench, W), connected(bench) as channel:
        assert eventually(lambda: (bench.turn(), channel.receive())[1], "a welcome") == [Welcome()]
        bench.ledger.busy = True
        bench.session.pipeline.turn()
        bench.session.settlement.assignments.assign(entry, W)
        bench.session.drain()
        bench.turn()
        bench.ledger.busy = False
        frames: list[ConsumerFrame] = []
        eventually(lambda: (bench.turn(), frames.extend(channel.receive()), len(frames) == 2)[2], "run and recall")
        assert [type(frame) for frame in frames] == [Run, Recall]
