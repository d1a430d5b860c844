"""The end of the exit history: what is kept, listed, and counted over time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.exit_history import CURRENT, ROTATED
from supervisor.system.clock import rfc3339
from supervisor.web.exits import KEPT_RECORDS, RecentExits

NOW_S = 1_700_000_030.0


def record(ago_s: float, cause: str = "crash", pool: str = "email", **more: Any) -> dict[str, Any]:
    """An exit so long ago."""
    return {"at": rfc3339(NOW_S - ago_s), "cause": cause, "pool": pool, **more}


def write(path: Path, *records: dict[str, Any]) -> None:
    """Append records as the master does."""
    with path.open("a") as history:
        history.writelines(json.dumps(each) + "\n" for each in records)


@pytest.fixture
def exits(tmp_path: Path) -> Iterator[RecentExits]:
    with closing(RecentExits(tmp_path)) as exits:
        yield exits


def read(exits: RecentExits) -> int:
    """Take in what is new; how many records that were."""
    fresh = exits.read()
    exits.absorb(fresh)
    return len(fresh.records)


def test_the_newest_comes_first_and_only_what_was_asked_for(tmp_path: Path, exits: RecentExits) -> None:
    write(tmp_path / ROTATED, record(30, n=1))
    write(tmp_path / CURRENT, record(20, "timeout", n=2), record(10, pool="sms", n=3))
    read(exits)

    assert [each["n"] for each in exits.last(None, None, 10)] == [3, 2, 1]
    assert [each["n"] for each in exits.last("email", None, 10)] == [2, 1]
    assert [each["n"] for each in exits.last(None, "crash", 1)] == [3]


def test_only_what_is_new_is_read_again(tmp_path: Path, exits: RecentExits) -> None:
    write(tmp_path / CURRENT, record(20))

    assert read(exits) == 1
    assert read(exits) == 0
    write(tmp_path / CURRENT, record(10))
    assert read(exits) == 1
    assert len(exits.last(None, None, 10)) == 2


def test_a_long_history_costs_no_more_than_its_end(tmp_path: Path, exits: RecentExits) -> None:
    write(tmp_path / CURRENT, *(record(1, n=number) for number in range(KEPT_RECORDS + 5)))
    read(exits)

    kept = exits.last(None, None, KEPT_RECORDS * 2)
    assert (len(kept), kept[0]["n"]) == (KEPT_RECORDS, KEPT_RECORDS + 4)
    assert sum(exits.series(60, 60, None, NOW_S).causes["crash"]) == KEPT_RECORDS + 5


def test_the_plot_counts_each_cause_in_its_bucket(tmp_path: Path, exits: RecentExits) -> None:
    write(
        tmp_path / CURRENT, record(200), record(70), record(65, "timeout"), record(5), record(4), record(3, pool="sms")
    )
    read(exits)

    series = exits.series(3, 3, None, NOW_S)

    assert series.bucket_s == 60
    assert series.causes == {"crash": [0, 1, 3], "timeout": [0, 1, 0]}
    assert exits.series(3, 3, "sms", NOW_S).causes == {"crash": [0, 0, 1]}


def test_the_borders_of_buckets_stay_where_they_are(exits: RecentExits) -> None:
    starts = {exits.series(60, 60, None, NOW_S + second).start for second in range(10)}

    assert starts == {rfc3339(1_700_000_040.0 - 3600)}


def test_nothing_happened_is_an_empty_plot(exits: RecentExits) -> None:
    assert exits.series(60, 60, None, NOW_S).causes == {}


@pytest.mark.parametrize(
    "damaged", [{}, {"at": "yesterday", "pool": "p", "cause": "c"}, {"at": 5, "pool": "p", "cause": "c"}, {"at": None}]
)
def test_a_record_that_is_none_does_not_end_the_plot(
    tmp_path: Path, exits: RecentExits, damaged: dict[str, Any]
) -> None:
    write(tmp_path / CURRENT, damaged, record(1))
    read(exits)

    assert sum(exits.series(60, 60, None, NOW_S).causes["crash"]) == 1
