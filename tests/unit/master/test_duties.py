"""The duties of a turn, each for itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.logs.events import Event
from supervisor.master.duties import Duties
from supervisor.symptoms import Symptoms


def fail() -> None:
    raise OSError(24, "Too many open files")


def test_a_duty_that_fails_keeps_no_other_from_being_carried_out_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[int] = []
    duties = Duties()
    for number in range(3):
        duties.carry_out(fail, lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == [0, 1, 2]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "could not fail: [Errno 24] Too many open files" in told[0]


def test_the_pool_that_a_duty_fails_for_says_so_until_it_works_again() -> None:
    pools: list[Any] = [SimpleNamespace(name=name, symptoms=Symptoms()) for name in ("email", "other")]
    failing, worked = {"email"}, list[str]()

    def write(pool: Any) -> None:
        if pool.name in failing:
            fail()
        worked.append(pool.name)

    duties = Duties()
    duties.for_each(pools, write)
    assert worked == ["other"]
    assert [symptom.name for symptom in pools[0].symptoms.present] == [Event.DUTY_FAILED]
    assert pools[1].symptoms.present == []
    failing.clear()
    duties.for_each(pools, write)
    assert pools[0].symptoms.present == []
