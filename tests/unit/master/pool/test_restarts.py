"""When the dead are replaced, as histories: a table of deaths, and what is expected to follow each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.schema import PoolConfig
from supervisor.logs.events import Cause
from supervisor.master.pool.children import ChildSpec, Kind
from supervisor.master.pool.restarts import (
    BOOT_TRIES,
    POLICIES,
    STEADY_S,
    Decision,
    Intensity,
    Lifetime,
    back_off_s,
    decide,
    decide_unborn,
    in_trouble,
)

POOL = PoolConfig(
    name="email",
    queue="email",
    handler="m:f",
    restart_backoff_s=(0.1, 2.0),
    restart_intensity=(4, 60.0),
    hold_retry_s=30.0,
)
CRASH, TIMEOUT, RECYCLED = Cause.CRASH, Cause.TIMEOUT, Cause.RECYCLED
HOLD = Decision(30.0, hold=True)

Death = tuple[float, Cause, Lifetime, Decision]

NOTHING, WORKED, STAYED = Lifetime(ready_for_s=STEADY_S - 0.1), Lifetime(messages=1), Lifetime(ready_for_s=STEADY_S)
ASKED = Lifetime(asked=True)

HISTORIES: dict[str, list[Death]] = {
    "the first replacement is immediate, then each waits twice as long": [
        (0.0, CRASH, NOTHING, Decision(0.0)),
        (0.1, CRASH, NOTHING, Decision(0.1)),
        (0.2, CRASH, NOTHING, Decision(0.2)),
        (0.3, CRASH, NOTHING, Decision(0.4)),
    ],
    "a finished message since boot starts the count again": [
        (0.0, CRASH, NOTHING, Decision(0.0)),
        (1.0, CRASH, NOTHING, Decision(0.1)),
        (2.0, CRASH, WORKED, Decision(0.0)),
        (3.0, CRASH, NOTHING, Decision(0.0)),
        (4.0, CRASH, NOTHING, Decision(0.1)),
    ],
    "limits are no fault of the worker: at once, however often": [
        (float(second), cause, life, Decision(0.0))
        for second in range(20)
        for cause, life in ((TIMEOUT, WORKED), (RECYCLED, NOTHING))
    ],
    "to have been ready proves nothing, to have stayed does": [
        (0.0, CRASH, NOTHING, Decision(0.0)),
        (1.0, CRASH, NOTHING, Decision(0.1)),
        (2.0, CRASH, STAYED, Decision(0.0)),
        (3.0, CRASH, NOTHING, Decision(0.0)),
    ],
    "who stands still from its boot on, or leaves unasked, is backed off as who crashes": [
        (0.0, TIMEOUT, Lifetime(), Decision(0.0)),
        (1.0, Cause.CLEAN_STOP, NOTHING, Decision(0.1)),
        (2.0, TIMEOUT, Lifetime(), Decision(0.2)),
        (3.0, Cause.CLEAN_STOP, ASKED, Decision(0.0)),
        (4.0, TIMEOUT, Lifetime(), Decision(0.4)),
        (5.0, TIMEOUT, Lifetime(), HOLD),
    ],
    "one too many within the window holds the child": [
        *((float(second), CRASH, NOTHING, Decision(delay_s)) for second, delay_s in enumerate((0.0, 0.1, 0.2, 0.4))),
        (4.0, CRASH, NOTHING, HOLD),
    ],
    "deaths that are far apart never hold": [
        (100.0 * number, CRASH, NOTHING, Decision(back_off_s(number + 1, (0.1, 2.0), 0.0))) for number in range(30)
    ],
    "after a hold one death is enough to be held again": [
        *((float(second), CRASH, NOTHING, Decision(delay_s)) for second, delay_s in enumerate((0.0, 0.1, 0.2, 0.4))),
        (4.0, CRASH, NOTHING, HOLD),
        (1000.0, CRASH, NOTHING, HOLD),
        (2000.0, CRASH, WORKED, Decision(0.0)),
        (2001.0, CRASH, NOTHING, Decision(0.0)),
    ],
    "a boot that fails is tried a few times, then held": [
        (0.0, Cause.BOOT_FAILED, NOTHING, Decision(0.0)),
        (1.0, Cause.BOOT_FAILED, NOTHING, Decision(0.1)),
        (2.0, Cause.BOOT_FAILED, NOTHING, HOLD),
        (32.0, Cause.BOOT_FAILED, NOTHING, HOLD),
    ],
    "who was killed by a stop is not replaced": [(0.0, Cause.STOP_KILLED, NOTHING, Decision(None))],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_histories_of_one_child(history: list[Death]) -> None:
    spec, intensity = ChildSpec("email", Kind.WORKER, 0), Intensity()
    for now_s, cause, life, expected in history:
        assert decide(cause, life, spec, intensity, POOL, now_s, 0.0) == expected


def test_the_intensity_counts_the_deaths_of_all_children_of_the_pool() -> None:
    intensity = Intensity()
    specs = [ChildSpec("email", Kind.WORKER, slot) for slot in range(5)]
    decisions = [decide(CRASH, NOTHING, spec, intensity, POOL, 1.0, 0.0) for spec in specs]
    assert [decision.hold for decision in decisions] == [False] * 4 + [True]


def test_at_the_start_one_failed_boot_is_enough() -> None:
    spec = ChildSpec("email", Kind.FORKSERVER)
    assert decide(Cause.BOOT_FAILED, Lifetime(), spec, Intensity(), POOL, 0.0, 0.0, boot_tries=1) == HOLD


def test_a_start_that_keeps_failing_is_never_tried_at_once_and_is_held_in_the_end() -> None:
    spec, intensity = ChildSpec("email", Kind.WORKER, 0), Intensity()
    delays = [decide_unborn(spec, intensity, POOL, float(second)) for second in range(5)]
    assert delays == [Decision(0.1), Decision(0.1), Decision(0.2), Decision(0.4), HOLD]


def test_a_slot_is_in_trouble_from_its_third_death_in_a_row_until_a_worker_makes_progress() -> None:
    spec, intensity = ChildSpec("email", Kind.CONSUMER), Intensity()
    troubled = []
    for second in range(3):
        decide(CRASH, NOTHING, spec, intensity, POOL, float(second), 0.0)
        troubled.append(in_trouble(spec))
    assert troubled == [False, False, True]
    spec.clear()
    assert not in_trouble(spec)


def test_a_hold_outlasts_the_next_try_until_it_has_proved_itself() -> None:
    spec, intensity = ChildSpec("email", Kind.WORKER, 0), Intensity()
    for second in range(5):
        decide(CRASH, NOTHING, spec, intensity, POOL, float(second), 0.0)
    assert spec.held
    decide(CRASH, NOTHING, spec, intensity, POOL, 1000.0, 0.0)
    assert spec.held
    decide(CRASH, STAYED, spec, intensity, POOL, 2000.0, 0.0)
    assert not spec.held


def test_every_cause_has_a_policy() -> None:
    assert set(POLICIES) == set(Cause)


@given(st.integers(min_value=1, max_value=10_000), st.floats(min_value=0.0, max_value=0.999))
def test_a_back_off_never_exceeds_the_cap_and_jitter_only_shortens_it(deaths: int, chance: float) -> None:
    plain_s, jittered_s = back_off_s(deaths, (0.1, 30.0), 0.0), back_off_s(deaths, (0.1, 30.0), chance)
    assert 0.75 * plain_s <= jittered_s <= plain_s <= 30.0


def test_boot_failures_hold_before_the_intensity_does() -> None:
    assert POOL.restart_intensity[0] >= BOOT_TRIES
