"""Lost retry copies, from the ledger on: found after a restart, recorded in pieces, told until they are mended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from supervisor.brokers.base import Held
from supervisor.config.schema import PoolConfig
from supervisor.consumer.observe.delay_watch import AT_ONCE, DelayWatch
from supervisor.consumer.observe.health import Health
from supervisor.consumer.settlement.messages import Failure
from supervisor.consumer.settlement.missing import EMPTY_S
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.logs.events import Event
from tests.support.settling import Bench, key_of

POOL = PoolConfig("mail", "q", "h:h")
HOUR = "q.retry.3600000"


class Watched:
    """A watch on a real ledger; `calls` are those that it wants later."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.bench = Bench()
        self.ledger = ledger
        self.bench.settlement.decisions.now_s = ledger.now_s
        self.health = Health("q")
        self.watch = DelayWatch(POOL, ledger, self.bench.settlement, self.health, key_of)
        self.calls: deque[Callable[[], None]] = deque()

    def begin(self) -> None:
        self.watch.begin(lambda delay_s, callback: self.calls.append(callback))
        self.settle()

    def settle(self) -> None:
        """Until nothing is left to do."""
        while self.calls:
            self.calls.popleft()()
            self.turn()

    def turn(self) -> None:
        rows = self.bench.turn().rows
        self.ledger.commit(rows.values(), {})
        self.watch.turned(rows)

    @property
    def told(self) -> str:
        return next((symptom.text for symptom in self.health.present if symptom.name == Event.RETRIES_LOST), "")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(tmp_path / "ledger.db", "normal")) as ledger:
        yield ledger


def retries(ledger: SqliteLedger, *ids: str, state: RowState = RowState.RETRY) -> None:
    """Messages that failed once; the copies for their second attempts wait an hour."""
    note = msgspec.msgpack.encode(Failure("failed", "no", delay_s=3600.0))
    for first in range(0, len(ids), AT_ONCE):  # as turns would: every look-up reads the whole of a commit
        turn = ids[first : first + AT_ONCE]
        ledger.commit([Row(key_of(id), 1, 1, state, -1, 0, ledger.now_s - 1, id, note) for id in turn], {})


def test_after_a_start_the_ledger_says_what_waits(ledger: SqliteLedger) -> None:
    many = 5 * AT_ONCE
    retries(ledger, *(f"m{number}" for number in range(many)))
    retries(ledger, "m1", f"m{many - 1}", state=RowState.DONE)
    watched = Watched(ledger)
    watched.begin()
    assert watched.watch.queues() == [HOUR]
    watched.watch.held(Held(HOUR, None))
    watched.settle()
    assert len(watched.watch.lost_with(None)) == many - 2
    assert f"{many - 2} message(s) lost" in watched.told


def test_lost_ones_are_recorded_in_pieces(ledger: SqliteLedger) -> None:
    retries(ledger, *(f"m{number}" for number in range(AT_ONCE + 1)))
    watched = Watched(ledger)
    watched.begin()
    watched.watch.held(Held(HOUR, None))
    watched.calls.popleft()()
    watched.turn()
    assert len(watched.watch.lost_with(None)) == AT_ONCE
    watched.settle()
    assert len(watched.watch.lost_with(None)) == AT_ONCE + 1


def test_lost_ones_are_told_again_after_a_restart_until_they_are_let_go(ledger: SqliteLedger) -> None:
    retries(ledger, "a", "b")
    former = Watched(ledger)
    former.begin()
    former.watch.held(Held(HOUR, None))
    former.settle()
    watched = Watched(ledger)
    watched.begin()
    assert "'a'" in watched.told
    assert "'b'" in watched.told
    watched.watch.let_go(watched.watch.lost_with({"a"}), "alice")
    assert "'a'" not in watched.told
    watched.watch.let_go(watched.watch.lost_with(None), "alice")
    watched.settle()
    assert watched.told == ""
    last = Watched(ledger)
    last.begin()
    assert last.told == ""


def test_a_queue_that_was_missing_before_the_ledger_was_read_has_lost_its_copies(ledger: SqliteLedger) -> None:
    retries(ledger, "a")
    watched = Watched(ledger)
    watched.watch.held(Held(HOUR, None))
    watched.begin()
    assert "'a'" in watched.told


def test_a_queue_found_missing_in_the_turn_that_records_a_copy_has_lost_it(ledger: SqliteLedger) -> None:
    watched = Watched(ledger)
    watched.begin()
    retries(ledger, "a")
    watched.watch.held(Held(HOUR, None))
    (row,) = watched.watch.rows([key_of("a")])
    watched.watch.turned({row.key: row})
    watched.settle()
    assert "'a'" in watched.told


def test_what_the_ledger_knows_more_of_is_not_lost(ledger: SqliteLedger) -> None:
    retries(ledger, "a")
    watched = Watched(ledger)
    watched.begin()
    watched.watch.held(Held(HOUR, None))
    retries(ledger, "a", state=RowState.DONE)
    watched.settle()
    assert (watched.told, watched.watch.lost_with(None)) == ("", [])


def test_what_is_overdue_for_ten_minutes_is_lost(ledger: SqliteLedger) -> None:
    retries(ledger, "a")
    watched = Watched(ledger)
    watched.begin()
    for later_s in (3600.0, 601.0):
        watched.bench.settlement.decisions.now_s += later_s
        watched.watch.looked(empty=True, shared=False)
        watched.settle()
    assert "has not come back" in watched.told


@pytest.mark.parametrize("state", [state for state in RowState if state is not RowState.RETRY])
def test_any_later_row_of_a_message_ends_the_wait_for_its_copy(ledger: SqliteLedger, state: RowState) -> None:
    retries(ledger, "a")
    watched = Watched(ledger)
    watched.begin()
    row = Row(key_of("a"), 1, 1, state, -1, 0, ledger.now_s, "a", msgspec.msgpack.encode(Failure("failed", "no")))
    watched.watch.turned({row.key: row})
    assert watched.watch.queues() == []


def test_what_a_turn_retries_is_waited_for(ledger: SqliteLedger) -> None:
    watched = Watched(ledger)
    watched.begin()
    retries(ledger, "a", "b")
    watched.watch.turned({row.key: row for key in (key_of("a"), key_of("b")) for row in ledger.look_up([key])[key]})
    assert watched.watch.queues() == [HOUR]


def test_one_that_was_published_again_before_it_was_let_go_keeps_its_copy(ledger: SqliteLedger) -> None:
    retries(ledger, "a")
    watched = Watched(ledger)
    watched.begin()
    watched.watch.held(Held(HOUR, None))
    watched.settle()
    watched.watch.let_go(watched.watch.lost_with({"a"}), "alice")
    retries(ledger, "a", state=RowState.RETRY_PENDING)
    watched.settle()
    (row,) = ledger.look_up([key_of("a")])[key_of("a")]
    assert row.state is RowState.RETRY_PENDING


def test_many_are_let_go_in_pieces(ledger: SqliteLedger) -> None:
    retries(ledger, *(f"m{number}" for number in range(AT_ONCE + 1)))
    watched = Watched(ledger)
    watched.begin()
    watched.watch.held(Held(HOUR, None))
    watched.settle()
    watched.watch.let_go(watched.watch.lost_with(None), "alice")
    watched.calls.popleft()()
    assert len(watched.bench.turn().rows) == AT_ONCE


@pytest.mark.parametrize(("empty", "lost"), [(True, 1), (False, 0)])
def test_an_empty_delay_queue_has_lost_nothing_while_its_copies_may_be_in_the_pools_queue(
    ledger: SqliteLedger, empty: bool, lost: int
) -> None:
    retries(ledger, "a")
    watched = Watched(ledger)
    watched.begin()
    for _look in range(2):
        watched.watch.looked(empty, shared=False)
        watched.watch.held(Held(HOUR, 0))
        watched.bench.settlement.decisions.now_s += EMPTY_S
    watched.settle()
    assert len(watched.watch.lost_with(None)) == lost


def test_what_others_take_is_not_waited_for_once_it_is_due(ledger: SqliteLedger) -> None:
    retries(ledger, "a")
    watched = Watched(ledger)
    watched.begin()
    for _look in range(4):
        watched.bench.settlement.decisions.now_s += 3600.0
        watched.watch.looked(empty=False, shared=True)
    watched.bench.settlement.decisions.now_s += 3600.0
    watched.watch.looked(empty=True, shared=False)
    watched.bench.settlement.decisions.now_s += 3600.0
    watched.watch.looked(empty=True, shared=False)
    watched.settle()
    assert watched.told == ""


def test_what_waits_for_a_queue_that_the_pool_had_before_is_not_judged(ledger: SqliteLedger) -> None:
    note = msgspec.msgpack.encode(Failure("failed", "no", delay_s=3600.0))
    elsewhere = key_of("a elsewhere")
    ledger.commit([Row(elsewhere, 1, 1, RowState.RETRY, -1, 0, ledger.now_s, "a", note)], {})
    watched = Watched(ledger)
    watched.begin()
    assert watched.watch.queues() == []
