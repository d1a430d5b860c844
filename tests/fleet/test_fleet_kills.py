"""kill -9 of a consumer at each fail-point of a fleet's ledger: afterwards the host and the store agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.config.schema import FleetConfig, LedgerConfig
from supervisor.ledger.base import Ledger, RowState
from tests.support.children import snippet
from tests.support.crash_site import Point, all_points
from tests.support.daemon import ROOT
from tests.support.failpoints.failpoints_runtime import ARMED, FIRED, FOLDER
from tests.support.fleet import emptied_store, made_store, store_url
from tests.support.ledgers import Store, found
from tests.support.postgresql import PostgreSQL

POINTS = {point.name: point for point in all_points() if point.situation == "fleet"}

LETTERS = {
    RowState.DISPATCHED: "c",
    RowState.RETRY_PENDING: "R",
    RowState.DEAD_PENDING: "D",
    RowState.DONE: "o",
    RowState.RETRY: "r",
    RowState.DEAD: "d",
}

CONSUMER = """
import sys
from itertools import count
from msgspec.structs import replace
from supervisor.ledger.base import RowState as S
from tests.support.ledgers import Store, row_of

ledger = Store.of_arguments(*sys.argv[2:]).open()

def commit(*rows):
    ledger.commit([replace(row_of(id, state), attempt=attempt, epoch=ledger.epoch) for id, state, attempt in rows], {})
    for id, state, attempt in rows:
        print(id, state.name, attempt, flush=True)

for n in count(int(sys.argv[1])):
    a, b, c = f"a{n}", f"b{n}", f"c{n}"
    commit((a, S.DISPATCHED, 1), (b, S.DISPATCHED, 1))
    commit((a, S.DONE, 1), (b, S.RETRY_PENDING, 1), (c, S.DISPATCHED, 1))
    commit((b, S.RETRY, 1), (c, S.RETURNED, 1))
    commit((b, S.DISPATCHED, 2), (c, S.DISPATCHED, 1))
    commit((b, S.DEAD_PENDING, 2), (c, S.DONE, 1))
    commit((b, S.DEAD, 2))
"""


@pytest.fixture(scope="module")
def database(postgresql: PostgreSQL) -> str:
    return made_store(postgresql)


@pytest.fixture
def place(postgresql: PostgreSQL, database: str, tmp_path: Path) -> Store:
    emptied_store(postgresql, database)
    (tmp_path / "pool").mkdir()
    return Store(LedgerConfig(), tmp_path / "pool", FleetConfig(store_url(postgresql.port, database), "tests"))


@pytest.fixture
def strike(tmp_path: Path, place: Store) -> Iterator[Callable[[str, int, int], dict[str, tuple[str, int]]]]:
    def strike(name: str, skip: int, first: int) -> dict[str, tuple[str, int]]:
        """What each message was told to be, before the consumer died at the hit number `skip`."""
        folder = tmp_path / f"failpoints-{first}-{skip}"
        tokens = folder / ARMED / name
        tokens.mkdir(parents=True)
        for number in range(skip + 1):
            (tokens / str(number)).touch()
        path = f"{ROOT / 'tests' / 'support' / 'failpoints'}:{ROOT}"
        with snippet(
            CONSUMER, str(first), *place.arguments, environ={FOLDER: str(folder), "PYTHONPATH": path}
        ) as dying:
            told = [line.split() for line in dying.rest()]
        assert (folder / FIRED).exists(), "it died of something else"
        return {id: (state, int(attempt)) for id, state, attempt in told}

    yield strike


@pytest.mark.parametrize("point", POINTS.values(), ids=lambda point: point.name)
def test_i2_host_and_store_agree_after_a_kill_at_any_moment(
    point: Point,
    place: Store,
    strike: Callable[[str, int, int], dict[str, tuple[str, int]]],
    postgresql: PostgreSQL,
    database: str,
) -> None:
    def ask(sql: str) -> list[tuple[Any, ...]]:
        return postgresql.ask(database, sql)

    told: dict[str, tuple[str, int]] = {}
    for first, skip in enumerate([0] if "registered" in point.name else [0, 1, 2, 3, 5, 8]):
        told |= strike(point.name, skip, first * 100)
        with place.opened() as ledger:
            assert open_there(ask) == open_here(ledger)
            closed = set(ask("SELECT name, round, attempt, state::text FROM preforkd.settled"))
            assert len(closed) == ask("SELECT count(*) FROM preforkd.settled")[0][0], "one effect each"
            for id, (state, attempt) in told.items():
                (row,) = found(ledger, id)
                assert (row.attempt, rank(row.state)) >= (attempt, rank(RowState[state])), "what was told is kept"
                if row.state in (RowState.DONE, RowState.DEAD, RowState.RETRY):
                    assert (id, row.round, row.attempt, LETTERS[row.state]) in closed


def rank(state: RowState) -> int:
    return 0 if state in (RowState.DISPATCHED, RowState.RETURNED) else 1 if state.open else 2


def open_here(ledger: Ledger) -> set[tuple[str, int, int, str]]:
    return {(row.id, row.round, row.attempt, LETTERS[row.state]) for row in ledger.open_rows()}


def open_there(ask: Callable[[str], list[tuple[Any, ...]]]) -> set[tuple[str, int, int, str]]:
    live = "SELECT epoch FROM preforkd.holder WHERE state = 'l'"
    rows = ask(f"SELECT name, round, attempt, state::text FROM preforkd.open WHERE epoch IN ({live})")
    assert len(rows) == ask("SELECT count(*) FROM preforkd.open")[0][0], "no row of a former epoch"
    return set(rows)
