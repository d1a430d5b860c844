"""When a worker has served long enough, with dice and memory in the test's hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from supervisor.config.schema import PoolConfig
from supervisor.scoreboard.words import LeavingReason
from supervisor.worker.limits import Recycling

EVEN = 0.5
BORN_S = 1000.0


class Memory:
    def __init__(self, size: int) -> None:
        self.size = size
        self.looks = 0

    def __call__(self, limit: int) -> bool:
        self.looks += 1
        return self.size > limit


def recycling(memory: int = 0, dice: float = EVEN, **limits: Any) -> Recycling:
    off = {"max_messages": 0, "max_age_s": 0.0, "max_memory_bytes": 0}
    pool = PoolConfig("email", "email", "m:f", **{**off, **limits})
    return Recycling(pool, BORN_S, Memory(memory), lambda: dice)


def test_without_limits_a_worker_stays_for_ever() -> None:
    forever = recycling(memory=10**12)
    forever.handled = 10**9
    assert forever.due(BORN_S + 10**9) is None
    assert forever.age_left_s(BORN_S) == math.inf


def test_it_leaves_after_its_messages() -> None:
    worker = recycling(max_messages=10)
    worker.handled = 9
    assert worker.due(BORN_S) is None
    worker.handled = 10
    assert worker.due(BORN_S) == LeavingReason.MESSAGES


@pytest.mark.parametrize("dice", [0.0, EVEN, 0.999_999])
def test_one_message_means_one(dice: float) -> None:
    worker = recycling(dice=dice, max_messages=1)
    assert worker.due(BORN_S) is None
    worker.handled = 1
    assert worker.due(BORN_S) == LeavingReason.MESSAGES


def test_it_leaves_when_it_is_too_old_idle_or_not() -> None:
    worker = recycling(max_age_s=100.0)
    assert worker.age_left_s(BORN_S + 40) == 60.0
    assert worker.due(BORN_S + 99.9) is None
    assert worker.due(BORN_S + 100) == LeavingReason.AGE


@pytest.mark.parametrize(("dice", "messages", "age_s"), [(0.0, 90, 90.0), (EVEN, 100, 100.0), (0.999_999, 110, 110.0)])
def test_limits_are_blurred_by_ten_per_cent(dice: float, messages: int, age_s: float) -> None:
    worker = recycling(dice=dice, max_messages=100, max_age_s=100.0)
    assert worker.age_left_s(BORN_S) == pytest.approx(age_s, abs=0.001)
    worker.handled = messages - 1
    assert worker.due(BORN_S) is None
    worker.handled = messages
    assert worker.due(BORN_S) == LeavingReason.MESSAGES


def test_it_leaves_when_it_is_too_big_but_not_before_it_did_anything() -> None:
    worker = recycling(memory=101, max_memory_bytes=100)
    assert worker.due(BORN_S) is None, "what the import costs is no reason to leave and boot again"
    worker.handled = 1
    assert worker.due(BORN_S) == LeavingReason.MEMORY


def test_memory_is_looked_at_ten_times_a_second_at_most() -> None:
    memory = Memory(1)
    pool = PoolConfig("email", "email", "m:f", max_memory_bytes=100)
    worker = Recycling(pool, BORN_S, memory, lambda: EVEN)
    worker.handled = 1
    for tick in range(1000):
        worker.due(BORN_S + tick / 1000)
    assert memory.looks == 10
