"""Profiles: from collapsed stacks to the two lists."""

from __future__ import annotations

from benchmarks.bench.growth import Point
from benchmarks.bench.profiles import own, parse, report, total, way_down

RAW = """run (a.py:1);turn (a.py:9);commit (b.py:4) 6
run (a.py:1);turn (a.py:9) 3
run (a.py:1);walk (c.py:2);walk (c.py:2) 1
"""


def test_own_time_belongs_to_the_innermost_function() -> None:
    assert own(parse(RAW)) == {"commit (b.py:4)": 6, "turn (a.py:9)": 3, "walk (c.py:2)": 1}


def test_total_time_counts_a_look_once_for_each_function_on_the_stack() -> None:
    counts = total(parse(RAW))
    assert counts["run (a.py:1)"] == 10
    assert counts["turn (a.py:9)"] == 9
    assert counts["walk (c.py:2)"] == 1


def test_a_report_shows_shares_most_first_and_total_times_above_what_is_below_everything() -> None:
    text = report("consumer", Point("an empty ledger"), parse(RAW))
    own_part, total_part = text.split("\ntotal time below run (a.py:1)\n")
    assert own_part.splitlines()[-3:] == [
        "  60.0 %  commit (b.py:4)",
        "  30.0 %  turn (a.py:9)",
        "  10.0 %  walk (c.py:2)",
    ]
    assert total_part.splitlines() == [
        "  90.0 %  turn (a.py:9)",
        "  60.0 %  commit (b.py:4)",
        "  10.0 %  walk (c.py:2)",
    ]


def test_below_everything_is_what_every_stack_begins_with() -> None:
    assert way_down(parse(RAW)) == ("run (a.py:1)",)
    assert way_down(parse("a (x:1);b (x:2) 1\n")) == ("a (x:1)", "b (x:2)")


def test_the_same_stack_may_be_written_in_several_lines() -> None:
    assert parse("a (x:1) 2\na (x:1) 3\n") == {("a (x:1)",): 5}
