"""Facts about telling a clock that was set from one that is corrected."""

from __future__ import annotations

import pytest

from supervisor.consumer.clock_jumps import ClockJumps

WALL_S, DAY_S = 1.8e9, 86400.0


def looks(steps: list[float], every_s: float = 1.0) -> list[float]:
    """What is told, second by second, of a clock that is off by each of these steps more."""
    jumps, passed_s, off_s = ClockJumps(WALL_S, 100.0), 100.0, 0.0
    told = []
    for step in steps:
        passed_s, off_s = passed_s + every_s, off_s + step
        told.append(jumps.look(WALL_S + passed_s - 100.0 + off_s, passed_s))
    return told


@pytest.mark.parametrize("by_s", [10 * DAY_S, -3600.0, 2.5, -1.8e9])
def test_a_jump_is_told_once_and_its_end_is_another(by_s: float) -> None:
    assert looks([0.0, by_s, 0.0, 0.0, -by_s, 0.0]) == pytest.approx([0.0, by_s, 0.0, 0.0, -by_s, 0.0])


def test_a_clock_that_runs_true_never_jumps() -> None:
    assert not any(looks([0.0] * 1000))


def test_a_clock_that_is_slewed_never_jumps() -> None:
    assert not any(looks([0.08] * 1000))
    assert not any(looks([-0.08] * 1000))


def test_steps_too_small_to_be_a_jump_add_up_to_one() -> None:
    """A time daemon that sets the clock back by half a second each second."""
    told = looks([-0.5] * 20)
    assert sum(map(bool, told)) >= 2
    assert all(step <= 0.0 for step in told)


def test_a_process_that_stood_still_for_a_day_is_no_jump() -> None:
    assert looks([0.0], every_s=DAY_S) == [0.0]
