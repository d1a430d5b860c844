"""What the benchmarks of replacement and reload make of what they hear: who may be killed, who was ready when."""

from __future__ import annotations

import os

import pytest

from benchmarks.bench.reload import availability
from benchmarks.bench.replacement import amid
from benchmarks.bench.stamps import LogPipe, until

S = 1_000_000_000


def test_a_rolling_reload_has_no_gap_and_never_fewer_than_before() -> None:
    assert availability(2, [(1, +1), (2, -1), (3, +1), (4, -1)]) == (2, 0.0)


def test_a_reload_that_ends_all_workers_first_has_a_gap() -> None:
    assert availability(2, [(1 * S, -1), (2 * S, -1), (5 * S, +1), (6 * S, +1)]) == (0, 3.0)


def test_the_longest_gap_counts() -> None:
    changes = [(1 * S, -1), (2 * S, +1), (3 * S, -1), (7 * S, +1), (8 * S, -1), (9 * S, +1)]

    assert availability(1, changes) == (0, 4.0)


def test_changes_count_in_the_order_of_their_times() -> None:
    assert availability(1, [(2, -1), (1, +1)]) == (1, 0.0)


def test_who_is_killed_in_mid_work_has_finished_something_before() -> None:
    last = {1: "begun", 2: "ended", 3: "begun"}
    first = {("begun", 1): 0, ("ended", 1): 0, ("begun", 2): 0, ("ended", 2): 0, ("begun", 3): 0}

    assert amid([1, 2, 3, 4], last, first) == [1]


def test_a_log_line_is_a_stamp_as_soon_as_it_is_whole() -> None:
    log = LogPipe()
    os.write(log.write_end, b'{"event": "worker.ready", "pid": 7}\nnot ours\n{"event": "worker.')
    first = log.hear()
    os.write(log.write_end, b'exited", "pid": 8}\n')
    second = log.hear()
    log.close()

    assert [(stamp.word, stamp.pid) for stamp in first + second] == [("worker.ready", 7), ("worker.exited", 8)]
    assert first[0].at_ns <= second[0].at_ns
    assert "not ours" in log.tail()


def test_what_never_happens_is_named() -> None:
    with pytest.raises(AssertionError, match="not within 0 s: four workers"):
        until(lambda timeout_s: None, lambda: False, "four workers", timeout_s=0)
