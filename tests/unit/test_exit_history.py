"""Reading the exit history: filters, rotation, half lines, damaged lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import StateError
from supervisor.exit_history import CURRENT, ROTATED, HistoryTail, Record, wanted


def write(path: Path, *records: dict[str, Any]) -> None:
    """Append records as the daemon does."""
    with path.open("a") as history:
        history.writelines(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[HistoryTail]:
    with HistoryTail(tmp_path) as tail:
        yield tail


def numbers(records: Iterable[Record]) -> list[int]:
    """The records' numbers, in order."""
    return [record["n"] for record in records]


def test_no_history_is_an_empty_history(tail: HistoryTail) -> None:
    assert [*tail.new()] == []


def test_the_older_file_comes_first(tmp_path: Path, tail: HistoryTail) -> None:
    write(tmp_path / ROTATED, {"n": 1}, {"n": 2})
    write(tmp_path / CURRENT, {"n": 3})
    assert numbers([*tail.new()]) == [1, 2, 3]


def test_only_what_is_new_comes_again(tmp_path: Path, tail: HistoryTail) -> None:
    assert numbers(tail.new()) == []

    write(tmp_path / CURRENT, {"n": 1})
    assert numbers(tail.new()) == [1]
    assert numbers(tail.new()) == []
    write(tmp_path / CURRENT, {"n": 2}, {"n": 3})
    assert numbers(tail.new()) == [2, 3]


def test_a_half_written_line_is_left_until_it_is_whole(tmp_path: Path, tail: HistoryTail) -> None:
    write(tmp_path / CURRENT, {"n": 1})
    with (tmp_path / CURRENT).open("a") as history:
        history.write('{"n": ')
    assert numbers(tail.new()) == [1]

    with (tmp_path / CURRENT).open("a") as history:
        history.write("2}\n")

    assert numbers(tail.new()) == [2]


def test_nothing_is_missed_when_the_file_is_rotated(tmp_path: Path, tail: HistoryTail) -> None:
    write(tmp_path / CURRENT, {"n": 1})
    assert numbers(tail.new()) == [1]

    write(tmp_path / CURRENT, {"n": 2})
    (tmp_path / CURRENT).rename(tmp_path / ROTATED)
    assert numbers(tail.new()) == [2]
    write(tmp_path / CURRENT, {"n": 3})

    assert numbers(tail.new()) == [3]
    write(tmp_path / CURRENT, {"n": 4})
    assert numbers(tail.new()) == [4]


def test_a_damaged_line_does_not_hide_those_around_it(tmp_path: Path, tail: HistoryTail) -> None:
    write(tmp_path / CURRENT, {"n": 1})
    with (tmp_path / CURRENT).open("ab") as history:
        history.write(b'{"n": 2, "ca\xff\n[17]\n')
    write(tmp_path / CURRENT, {"n": 3})

    assert numbers(tail.new()) == [1, 3]


def test_records_are_chosen_by_pool_and_cause() -> None:
    records: list[Record] = [
        {"n": 1, "pool": "a", "cause": "crash"},
        {"n": 2, "pool": "b", "cause": "crash"},
        {"n": 3, "pool": "a", "cause": "timeout"},
    ]

    assert numbers(wanted(iter(records), "a", None)) == [1, 3]
    assert numbers(wanted(iter(records), None, "crash")) == [1, 2]
    assert numbers(wanted(iter(records), "a", "crash")) == [1]
    assert numbers(wanted(iter(records), None, None)) == [1, 2, 3]


@pytest.mark.parametrize(
    "odd",
    [
        '{"at": 5}',
        '{"cause": []}',
        '{"slot": {}}',
        '{"uptime_s": "x"}',
        '{"kind": null}',
        '{"pid": 1.5}',
        "[1]",
        "3",
        "null",
    ],
)
def test_a_line_of_another_shape_is_passed_over(tmp_path: Path, tail: HistoryTail, odd: str) -> None:
    write(tmp_path / CURRENT, {"n": 1})
    with (tmp_path / CURRENT).open("a") as history:
        history.write(odd + "\n")
    write(tmp_path / CURRENT, {"n": 2})
    assert numbers(tail.new()) == [1, 2]


def test_a_pipe_in_place_of_the_history_is_named_and_not_waited_for(tmp_path: Path, tail: HistoryTail) -> None:
    os.mkfifo(tmp_path / CURRENT)
    with pytest.raises(StateError, match="it is no regular file; move it away"):
        list(tail.new())
