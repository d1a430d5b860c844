"""Outcomes from frames and rings, deaths from exit notices, on real slot files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from supervisor.consumer.observe.measures import HANDLER_LE_S, Histogram
from supervisor.consumer.workers.dispatch import Dispatcher
from supervisor.consumer.workers.outcomes import Outcomes
from supervisor.ledger.base import RowState
from supervisor.link.frames import ExitNotice, Incarnation, Outcome, RunId
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import LimitSource, OutcomeKind
from supervisor.system import posix
from tests.support.settling import QUEUE, Bench
from tests.support.slots import opened_slots

W = Incarnation(0, 7)
DATABASE = b"0123456789abcdef"
NOTICE = ExitNotice(W, "killed", None, "SIGKILL", "stack of the dead")


class Shop:
    """A worker's slot, the consumer's view of it, and a settlement."""

    def __init__(self, slots_dir: Path, worker: Slot) -> None:
        self.slots_dir = slots_dir
        self.worker = worker
        self.bench = Bench()
        self.dispatcher = Dispatcher(self.bench.pool)
        self.dispatcher.join(W)
        self.handler_s = Histogram(HANDLER_LE_S)
        self.retired: list[Incarnation] = []
        self.outcomes = self.reader()

    def reader(self) -> Outcomes:
        """A consumer's view, as it is at its start."""
        return Outcomes(
            "p", self.slots_dir, self.bench.settlement, self.dispatcher, self.handler_s, self.retired.append
        )

    def give(self, *ids: str) -> list[RunId]:
        """Messages that the worker has."""
        runs = []
        for id in ids:
            self.bench.deliver(id)
            runs.append(self.bench.assign(W))
        self.bench.turn()
        return runs

    def begin(self, run: RunId) -> None:
        """The worker begins a run."""
        self.worker.mark_running(run, "id", 1.0, 1.0, 9.0, LimitSource.POOL)

    def end(self, run: RunId, kind: OutcomeKind = OutcomeKind.DONE, text: str = "", elapsed_s: float = 0.5) -> Outcome:
        """The worker runs and marks; the frame it would send."""
        self.begin(run)
        cell = self.worker.mark_outcome(kind, 4.0 if kind is OutcomeKind.RETRY else None, elapsed_s, text)
        return Outcome(cell, run, kind, None, text, "whole stack", elapsed_s)

    def states(self) -> dict[str, RowState]:
        """What the ledger says after the turn."""
        self.bench.turn()
        return {row.id: row.state for row in self.bench.rows.values()}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with opened_slots() as open_slot:
        worker = open_slot(tmp_path / "0.slot")
        assert worker.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, W.generation)
        made = Shop(tmp_path, worker)
        yield made
        for slot in made.outcomes._slots.values():
            os.close(slot._file.descriptor)


def test_a_reported_outcome_is_taken_with_its_whole_stack(shop: Shop) -> None:
    (run,) = shop.give("m")
    shop.outcomes.heard(W, shop.end(run, OutcomeKind.FAILED, "ValueError"))
    assert shop.states() == {"m": RowState.RETRY_PENDING}
    failure = shop.bench.entry().failure
    assert failure
    assert (failure.cause, failure.reason, failure.worker, failure.stack) == (
        "failed",
        "ValueError",
        "p/0",
        "whole stack",
    )


def test_an_outcome_whose_predecessor_was_not_heard_is_looked_up_with_it(shop: Shop) -> None:
    one, two = shop.give("a", "b")
    shop.end(one)
    shop.outcomes.heard(W, shop.end(two))
    assert shop.states() == {"a": RowState.DONE, "b": RowState.DONE}


def test_an_outcome_that_the_ring_told_first_is_not_taken_again(shop: Shop) -> None:
    (run,) = shop.give("m")
    frame = shop.end(run)
    shop.outcomes.hand_in(0)
    shop.outcomes.heard(W, frame)
    shop.bench.turn()
    assert shop.bench.counters["done"] == 1


def test_i1_the_tail_follows_what_was_taken_never_what_is_marked(shop: Shop) -> None:
    one, two = shop.give("a", "b")
    shop.end(one)
    shop.outcomes.hand_in_all()
    shop.end(two)
    assert shop.worker.tail == 0
    shop.outcomes.advance_tails(shop.outcomes.take_tails())
    assert shop.worker.tail == 1


def test_i2_what_a_dead_consumer_had_taken_but_not_committed_is_there_for_the_next(shop: Shop) -> None:
    (run,) = shop.give("m")
    shop.outcomes.heard(W, shop.end(run))
    shop.bench.restart()  # before the commit
    shop.outcomes = shop.reader()
    shop.outcomes.hand_in_all()
    assert shop.states() == {"m": RowState.DONE}


def test_an_exit_notice_takes_the_ring_then_doubts_the_running_one_then_frees_the_rest(shop: Shop) -> None:
    one, two, three = shop.give("a", "b", "c")
    shop.end(one)
    shop.begin(two)
    shop.outcomes.died(NOTICE)
    assert shop.states() == {"a": RowState.DONE, "b": RowState.RETRY_PENDING, "c": RowState.RETURNED}
    assert [entry.run for entry in shop.bench.settlement.assignments.waiting.values()] == [three]
    failure = shop.bench.entry("b").failure
    assert failure
    assert (failure.cause, failure.signal, failure.stack) == ("killed", "SIGKILL", "stack of the dead")
    assert failure.reason == "p/0 ended while running it: killed (SIGKILL)"


def test_i4_a_mark_of_the_slots_next_owner_is_not_the_dead_workers(shop: Shop) -> None:
    (run,) = shop.give("m")
    shop.worker.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, 8)
    shop.begin(run)
    shop.outcomes.died(NOTICE)
    assert shop.states() == {"m": RowState.RETURNED}


def test_the_exit_notice_explains_what_the_slots_next_owner_found_running(shop: Shop) -> None:
    (run,) = shop.give("m")
    shop.begin(run)
    shop.worker.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, 8)
    shop.outcomes.died(NOTICE)
    assert shop.states() == {"m": RowState.RETRY_PENDING}
    failure = shop.bench.entry().failure
    assert failure
    assert failure.cause == "killed"


@pytest.mark.parametrize("taken_before", [False, True])
def test_a_death_tells_the_database_of_the_inbox_that_its_run_used(shop: Shop, taken_before: bool) -> None:
    (run,) = shop.give("m")
    shop.begin(run)
    shop.worker.mark_inbox(run, DATABASE)
    if taken_before:
        shop.worker.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, 8)
    shop.outcomes.died(NOTICE)
    failure = shop.bench.entry().failure
    assert failure
    assert (failure.cause, failure.database) == ("killed", DATABASE)


@pytest.mark.parametrize("reported", [False, True])
def test_a_failed_run_tells_the_database_of_its_inbox(shop: Shop, reported: bool) -> None:
    (run,) = shop.give("m")
    shop.begin(run)
    shop.worker.mark_inbox(run, DATABASE)
    cell = shop.worker.mark_outcome(OutcomeKind.FAILED, None, 0.1, "no")
    if reported:
        shop.outcomes.heard(W, Outcome(cell, run, OutcomeKind.FAILED, None, "no", "", 0.1, DATABASE))
    else:
        shop.outcomes.hand_in(0)
    failure = shop.bench.entry().failure
    assert failure
    assert failure.database == DATABASE


@pytest.mark.parametrize("how", ["another boot", "a slot file that is gone", "a generation before the file"])
def test_i4_without_proof_what_left_no_mark_is_in_doubt(shop: Shop, how: str) -> None:
    worker = {"another boot": W, "a slot file that is gone": Incarnation(5, 2)}.get(how, Incarnation(0, 3))
    shop.bench.deliver()
    shop.bench.assign(worker)
    shop.outcomes.lost(worker, proof=how != "another boot")
    assert shop.states() == {"m": RowState.RETRY_PENDING}


def test_with_proof_what_left_no_mark_was_not_begun(shop: Shop) -> None:
    shop.give("m")
    shop.outcomes.lost(W, proof=True)
    assert shop.states() == {"m": RowState.RETURNED}


@pytest.mark.parametrize(("asked_s", "delay_s"), [(None, 1.0), (0.0, 0.001), (-1.0, 0.001), (5.0, 5.0)])
def test_a_retry_at_once_is_not_the_pools_own_delay(shop: Shop, asked_s: float | None, delay_s: float) -> None:
    (run,) = shop.give("m")
    shop.begin(run)
    shop.worker.mark_outcome(OutcomeKind.RETRY, asked_s, 0.1, "")
    shop.outcomes.hand_in(0)
    shop.bench.turn()
    assert shop.bench.published()[0].delay_s == delay_s


def test_a_cells_text_is_reason_and_stack(shop: Shop) -> None:
    (run,) = shop.give("m")
    shop.end(run, OutcomeKind.REJECT, "no such user\nTraceback\n  line")
    shop.outcomes.hand_in(0)
    shop.bench.turn()
    failure = shop.bench.entry().failure
    assert failure
    assert (failure.reason, failure.stack) == ("no such user", "Traceback\n  line")


def test_the_dispatcher_learns_how_long_runs_take(shop: Shop) -> None:
    one, two = shop.give("a", "b")
    shop.outcomes.heard(W, shop.end(one, elapsed_s=0.0001))
    assert shop.dispatcher.room(W) > 1
    shop.end(two, elapsed_s=3.0)
    shop.outcomes.hand_in(0)
    assert shop.dispatcher.room(W) == 1


def test_a_worker_without_its_slots_lock_does_not_live(shop: Shop) -> None:
    assert not shop.outcomes.lives(Incarnation(0, 6))
    assert not shop.outcomes.lives(W)  # this process holds the lock, so to itself it is free


def _tail_at_the_head(outcomes: Outcomes, tails: dict[int, int]) -> None:
    for number, slot in outcomes._slots.items():
        slot.advance_tail(len(slot.cells(0)))
        outcomes._taken[number] = slot.tail


MUTANTS: dict[str, tuple[str, Callable[..., None]]] = {
    "the tail runs ahead of what was taken": ("advance_tails", _tail_at_the_head),
    "the tail stays": ("advance_tails", lambda outcomes, tails: None),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_test_of_the_tail_finds(mutant: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outcomes, *MUTANTS[mutant])
    with pytest.raises(AssertionError):
        test_i1_the_tail_follows_what_was_taken_never_what_is_marked(shop)


@pytest.mark.parametrize(
    ("type_", "routing_key", "kind"),
    [("resize", "media", "type 'resize'"), ("", "media", "routing key 'media'"), ("", QUEUE, "")],
)
def test_the_kind_of_message_that_a_worker_died_of_is_told_once(
    shop: Shop, type_: str, routing_key: str, kind: str
) -> None:
    shop.begin(*shop.give("m"))
    (entry,) = shop.bench.settlement.entries.values()
    assert entry.delivery is not None
    properties = msgspec.structs.replace(entry.delivery.properties, type=type_)
    entry.delivery = msgspec.structs.replace(entry.delivery, routing_key=routing_key, properties=properties)
    shop.outcomes.died(NOTICE)
    assert [shop.outcomes.take_kind(W) for _ in range(2)] == [kind, ""]


def test_an_outcome_that_is_marked_and_not_reported_is_collected_once(shop: Shop) -> None:
    first, second = shop.give("a", "b")
    frame = shop.end(first)
    shop.begin(second)

    shop.outcomes.collect(W)
    assert shop.states() == {"a": RowState.DONE, "b": RowState.DISPATCHED}
    shop.outcomes.heard(W, frame)
    assert shop.states() == {"a": RowState.DONE, "b": RowState.DISPATCHED}, "the report that follows says nothing new"
    assert sum(shop.handler_s._counts) == 1


def test_nothing_is_collected_from_a_worker_without_a_link_or_from_its_successor(shop: Shop) -> None:
    shop.end(shop.give("a")[0])

    shop.outcomes.collect(Incarnation(W.slot, W.generation + 1))
    shop.dispatcher.join(Incarnation(W.slot, W.generation + 1))
    shop.outcomes.collect(Incarnation(W.slot, W.generation + 1))
    shop.dispatcher.leave(W)
    shop.outcomes.collect(W)
    assert shop.states() == {"a": RowState.DISPATCHED}


def test_a_slot_that_cannot_be_read_is_not_collected(shop: Shop) -> None:
    stray = Incarnation(9, 1)
    shop.dispatcher.join(stray)

    shop.outcomes.collect(stray)
