"""Comparison in turns: who comes when, and what is made of it."""

from __future__ import annotations

import pytest

from benchmarks.bench.pairs import best, interleaved, percentile, ratio, spread


def test_contestants_take_turns_and_none_is_always_first() -> None:
    turns: list[str] = []

    def contestant(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    results = interleaved({"a": lambda: contestant("a"), "b": lambda: contestant("b")}, rounds=3)

    assert "".join(turns) == "abbaab"
    assert results == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def test_a_machine_that_was_slow_for_a_round_does_not_change_the_ratio() -> None:
    assert ratio([200.0, 20.0, 90.0], [100.0, 10.0, 30.0]) == 2.0  # of the medians it would be 3


def test_a_ratio_needs_as_many_rounds_of_both() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_the_best_way_to_run_a_contestant_is_chosen_round_by_round() -> None:
    results = {"p200": [10.0, 30.0], "p500": [20.0, 15.0], "other": [99.0, 99.0]}

    assert best(results, ["p200", "p500"]) == [20.0, 30.0]


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (50, 50.0), (99, 99.0), (99.1, 100.0), (100, 100.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert percentile([float(each) for each in range(100, 0, -1)], percent) == value


def test_of_two_values_the_middle_is_the_lower() -> None:
    assert percentile([3.0, 1.0], 50) == 1.0


def test_a_spread_says_of_how_many() -> None:
    assert spread([5.0, 1.0, 3.0]) == {"p50": 3.0, "p99": 5.0, "n": 3}
