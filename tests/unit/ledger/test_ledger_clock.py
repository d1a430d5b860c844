"""Facts about the ledger's own time: what it counts, and what it does not believe."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from supervisor.ledger import sqlite
from supervisor.ledger.base import RowState
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.system import clock
from tests.support.ledgers import found, row_of

KEEP_S, KEEP_MAX = 7 * 86400.0, 10**6
WALL_S = 1_800_000_000.0


class Machine:
    """Its clocks: `passes` moves both, `boots` begins boot time again, `set_clock` moves the wall's alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_s, self.boottime_s, self.boot = WALL_S, 500.0, "first boot"
        monkeypatch.setattr(clock, "boottime_s", lambda: self.boottime_s)
        monkeypatch.setattr(sqlite, "wall_s", lambda: self.wall_s)
        monkeypatch.setattr(sqlite, "boot_id", lambda: self.boot)

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boottime_s += seconds

    def boots(self, wall_s: float) -> None:
        self.wall_s, self.boottime_s, self.boot = wall_s, 3.0, f"boot at {wall_s}"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def finish(ledger: SqliteLedger, id: str) -> None:
    ledger.commit([row_of(id, at_s=ledger.now_s)], {})


def forget(ledger: SqliteLedger) -> int:
    """How many rows are forgotten, as the consumer asks for it."""
    forgotten = 0
    while batch := sum(ledger.evict(ledger.now_s - KEEP_S, KEEP_MAX)):
        forgotten += batch
    return forgotten


@pytest.mark.parametrize("by_s", [10 * 86400.0, -10 * 86400.0, 2**32 - WALL_S, -WALL_S])
def test_a_clock_that_is_set_makes_no_row_older(machine: Machine, path: Path, by_s: float) -> None:
    with_ledger = SqliteLedger(path, "normal")
    finish(with_ledger, "before")
    machine.wall_s += by_s
    assert forget(with_ledger) == 0
    with_ledger.close()
    again = SqliteLedger(path, "normal")
    finish(again, "after")
    machine.wall_s -= by_s
    assert forget(again) == 0
    again.close()
    last = SqliteLedger(path, "normal")
    assert forget(last) == 0
    assert len(found(last, "before")) == len(found(last, "after")) == 1
    last.close()


def test_rows_are_forgotten_once_their_time_has_passed_also_while_the_daemon_was_down(
    machine: Machine, path: Path
) -> None:
    ledger = SqliteLedger(path, "normal")
    finish(ledger, "old")
    machine.passes(KEEP_S - 60)
    assert forget(ledger) == 0
    finish(ledger, "young")
    ledger.close()
    machine.passes(120)
    ledger = SqliteLedger(path, "normal")
    assert forget(ledger) == 1
    assert (found(ledger, "old"), len(found(ledger, "young"))) == ([], 1)
    ledger.close()


@pytest.mark.parametrize("boots_at_s", [0.0, WALL_S - 3600.0, WALL_S + 30 * 86400.0])
def test_the_time_that_the_machine_was_off_is_not_counted(machine: Machine, path: Path, boots_at_s: float) -> None:
    """It cannot be known: the clock may be wrong at boot, and set right later."""
    ledger = SqliteLedger(path, "normal")
    finish(ledger, "before")
    ledger.close()
    machine.boots(boots_at_s)
    ledger = SqliteLedger(path, "normal")
    machine.wall_s = WALL_S + 40 * 86400.0
    assert forget(ledger) == 0
    finish(ledger, "after")
    machine.passes(KEEP_S + 1)
    assert forget(ledger) == 2
    ledger.close()


def test_a_ledger_made_by_a_clock_in_the_future_ages_like_any_other(machine: Machine, path: Path) -> None:
    machine.wall_s += 10 * 86400.0
    ledger = SqliteLedger(path, "normal")
    finish(ledger, "ahead")
    machine.wall_s -= 10 * 86400.0
    machine.passes(KEEP_S - 1)
    assert forget(ledger) == 0
    machine.passes(2)
    assert forget(ledger) == 1
    ledger.close()


def test_a_ledger_from_before_it_had_a_clock_loses_nothing_at_its_first_opening(machine: Machine, path: Path) -> None:
    ledger = SqliteLedger(path, "normal")
    ledger.commit([row_of("old", at_s=WALL_S)], {})
    ledger._database.execute("DELETE FROM meta WHERE name LIKE 'clock%'")
    ledger.close()
    machine.wall_s += 10 * 86400.0
    ledger = SqliteLedger(path, "normal")
    assert forget(ledger) == 0
    assert ledger.now_s == WALL_S
    ledger.close()


def test_open_rows_of_the_future_move_the_clock_on(machine: Machine, path: Path) -> None:
    """Whatever it was that wrote them: no later row may be older than they are."""
    ledger = SqliteLedger(path, "normal")
    row = msgspec.structs.replace(row_of("open", RowState.DISPATCHED), at_s=WALL_S + 5000.0)
    ledger.commit([row], {})
    ledger.close()
    ledger = SqliteLedger(path, "normal")
    assert ledger.now_s == WALL_S + 5000.0
    ledger.close()


def test_keep_of_nothing_forgets_what_is_finished_and_nothing_that_is_open(machine: Machine, path: Path) -> None:
    ledger = SqliteLedger(path, "normal")
    finish(ledger, "done")
    ledger.commit([row_of("open", RowState.DISPATCHED, at_s=ledger.now_s)], {})
    machine.passes(0.001)
    assert sum(ledger.evict(ledger.now_s, KEEP_MAX)) == 1
    assert (found(ledger, "done"), len(found(ledger, "open"))) == ([], 1)
    ledger.close()
