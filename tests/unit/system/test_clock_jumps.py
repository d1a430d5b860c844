"""Facts about telling a clock that was set from one that is corrected."""

from __future__ import annotations

import pytest

from supervisor.system.clock import ClockJumps, ahead_s

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


@pytest.mark.parametrize("by_s", [0.0, 3e-6, -3e-6, 0.001, -0.02])
def test_a_time_on_record_is_shown_the_same_however_long_it_takes_to_read_two_clocks(by_s: float) -> None:
    assert ahead_s(WALL_S + by_s, WALL_S, 0.0) == 0.0
    assert ahead_s(WALL_S + 3600.0 + by_s, WALL_S, 3600.0) == 3600.0


@pytest.mark.parametrize("by_s", [0.1, -0.1, DAY_S, -WALL_S])
def test_times_are_shown_by_a_clock_that_was_set(by_s: float) -> None:
    assert ahead_s(WALL_S + by_s, WALL_S, 0.0) == pytest.approx(by_s)
    assert ahead_s(WALL_S, WALL_S, by_s) == 0.0


def test_a_clock_that_drifts_is_followed() -> None:
    shown_s = 0.0
    for step in range(1000):
        shown_s = ahead_s(WALL_S + step * 0.001, WALL_S, shown_s)

    assert shown_s == pytest.approx(0.999, abs=0.05)
