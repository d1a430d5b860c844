"""Some events one by one, the rest of a window as a sum: nothing is told twice and nothing goes uncounted."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from supervisor.hooks.digest import MAX_NAMES, Digest

CRASH = {"event": "worker.exited", "pool": "email", "cause": "crash"}


def test_so_many_are_told_and_the_rest_when_the_window_is_over() -> None:
    digest = Digest((2, 60.0))
    assert [digest.admits("exit", CRASH, 100.0 + n) for n in range(5)] == [True, True, False, False, False]
    assert digest.due_s == 160.0
    assert digest.take_sums(159.9) == []
    counts = {"email worker.exited crash": 3}
    summary = {"event": "hooks.summary", "count": 3, "counts": counts, "dropped": 0, "within_s": 60.0}
    assert digest.take_sums(160.0) == [("exit", summary)]
    assert digest.admits("exit", CRASH, 161.0), "the next window is open"


def test_a_window_in_which_all_were_told_has_no_sum() -> None:
    digest = Digest((2, 60.0))
    digest.admits("exit", CRASH, 0.0)
    assert digest.take_sums(60.0) == []
    assert digest.due_s == float("inf")


def test_each_hook_has_a_window_of_its_own() -> None:
    digest = Digest((1, 60.0))
    assert [digest.admits(hook, CRASH, 0.0) for hook in ("exit", "dead", "exit", "hold")] == [True, True, False, True]


def test_what_never_came_here_is_in_the_sum() -> None:
    digest = Digest((10, 60.0))
    digest.missed("dead", 7, 0.0)
    ((hook, summary),) = digest.take_sums(60.0)
    assert (hook, summary["count"], summary["dropped"], summary["counts"]) == ("dead", 7, 7, {})


def test_a_sum_names_only_so_many_things() -> None:
    digest = Digest((1, 60.0))
    for number in range(3 * MAX_NAMES):
        digest.admits("exit", CRASH | {"pool": f"p{number}"}, 0.0)
    ((_hook, summary),) = digest.take_sums(60.0)
    assert len(summary["counts"]) == MAX_NAMES + 1
    assert summary["counts"]["others"] == 3 * MAX_NAMES - 1 - MAX_NAMES
    assert summary["count"] == 3 * MAX_NAMES - 1


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["exit", "dead"])), max_size=80), st.integers(1, 5))
def test_every_event_is_told_or_counted_exactly_once(steps: list[tuple[float, str]], most: int) -> None:
    digest, now_s, told, summed = Digest((most, 10.0)), 0.0, 0, list[dict[str, Any]]()
    for passed_s, hook in steps:
        now_s += passed_s
        summed += [facts for _hook, facts in digest.take_sums(now_s)]
        told += digest.admits(hook, CRASH, now_s)
    summed += [facts for _hook, facts in digest.take_sums(float("inf"))]
    assert told + sum(facts["count"] for facts in summed) == len(steps)
