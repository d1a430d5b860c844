"""When the dead are replaced, as histories: a table of deaths, and what is expected to follow each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.schema import PoolConfig
from supervisor.events import Cause
from supervisor.master.children import Kind, Seat
from supervisor.master.restarts import BOOT_TRIES, POLICIES, Decision, Intensity, back_off_s, decide

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

Death = tuple[float, Cause, bool, Decision]

HISTORIES: dict[str, list[Death]] = {
    "the first replacement is immediate, then each waits twice as long": [
        (0.0, CRASH, False, Decision(0.0)),
        (0.1, CRASH, False, Decision(0.1)),
        (0.2, CRASH, False, Decision(0.2)),
        (0.3, CRASH, False, Decision(0.4)),
    ],
    "a finished message since boot starts the count anew": [
        (0.0, CRASH, False, Decision(0.0)),
        (1.0, CRASH, False, Decision(0.1)),
        (2.0, CRASH, True, Decision(0.0)),
        (3.0, CRASH, False, Decision(0.0)),
        (4.0, CRASH, False, Decision(0.1)),
    ],
    "limits are no fault of the worker: at once, however often": [
        (float(second), cause, False, Decision(0.0)) for second in range(20) for cause in (TIMEOUT, RECYCLED)
    ],
    "one too many within the window holds the seat": [
        *((float(second), CRASH, False, Decision(delay_s)) for second, delay_s in enumerate((0.0, 0.1, 0.2, 0.4))),
        (4.0, CRASH, False, HOLD),
    ],
    "deaths that are far apart never hold": [
        (100.0 * number, CRASH, False, Decision(back_off_s(number + 1, (0.1, 2.0), 0.0))) for number in range(30)
    ],
    "after a hold one death is enough to be held again": [
        *((float(second), CRASH, False, Decision(delay_s)) for second, delay_s in enumerate((0.0, 0.1, 0.2, 0.4))),
        (4.0, CRASH, False, HOLD),
        (1000.0, CRASH, False, HOLD),
        (2000.0, CRASH, True, Decision(0.0)),
        (2001.0, CRASH, False, Decision(0.0)),
    ],
    "a boot that fails is tried a few times, then held": [
        (0.0, Cause.BOOT_FAILED, False, Decision(0.0)),
        (1.0, Cause.BOOT_FAILED, False, Decision(0.1)),
        (2.0, Cause.BOOT_FAILED, False, HOLD),
        (32.0, Cause.BOOT_FAILED, False, HOLD),
    ],
    "who was killed by a stop is not replaced": [(0.0, Cause.STOP_KILLED, False, Decision(None))],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_histories_of_one_seat(history: list[Death]) -> None:
    seat, intensity = Seat("email", Kind.WORKER, 0), Intensity()
    for now_s, cause, progressed, expected in history:
        assert decide(cause, progressed, seat, intensity, POOL, now_s, 0.0) == expected


def test_the_intensity_counts_the_deaths_of_all_seats_of_the_pool() -> None:
    intensity = Intensity()
    seats = [Seat("email", Kind.WORKER, slot) for slot in range(5)]
    decisions = [decide(CRASH, False, seat, intensity, POOL, 1.0, 0.0) for seat in seats]
    assert [decision.hold for decision in decisions] == [False] * 4 + [True]


def test_every_cause_has_a_policy() -> None:
    assert set(POLICIES) == set(Cause)


@given(st.integers(min_value=1, max_value=10_000), st.floats(min_value=0.0, max_value=0.999))
def test_a_back_off_never_exceeds_the_cap_and_jitter_only_shortens_it(deaths: int, chance: float) -> None:
    plain_s, jittered_s = back_off_s(deaths, (0.1, 30.0), 0.0), back_off_s(deaths, (0.1, 30.0), chance)
    assert 0.75 * plain_s <= jittered_s <= plain_s <= 30.0


def test_boot_failures_hold_before_the_intensity_does() -> None:
    assert POOL.restart_intensity[0] >= BOOT_TRIES
