"""A rate of unplanned exits is a symptom, with messages finished between them or not; it names what they share."""

from __future__ import annotations

import pytest

from supervisor.config.schema import PoolConfig
from supervisor.logs.events import Cause, Event
from supervisor.master.pool.children import Kind
from supervisor.master.pool.crash_rate import SERVICES, CrashRate
from supervisor.master.pool.exit_records import EXITED, ExitRecord
from supervisor.symptoms import Symptom, Symptoms

POOL = PoolConfig("email", "email", "m:f", workers=4, restart_intensity=(10, 60.0))


def record(cause: Cause = Cause.CRASH, message_id: str = "", **facts: object) -> ExitRecord:
    signalled = {"signal": "SIGSEGV"} if cause is Cause.CRASH else {"status": 0}
    kind = Kind.WORKER
    return ExitRecord(
        at="", event=EXITED[kind], kind=kind, pool="email", slot=0, pid=1, generation=1, cause=cause,
        message_id=message_id, **signalled, **facts,  # type: ignore[arg-type]
    )  # fmt: skip


def seen(rate: CrashRate, now_s: float, pool: PoolConfig = POOL) -> list[Symptom]:
    symptoms = Symptoms()
    rate.judge(pool, symptoms, now_s)
    return symptoms.present


def test_nineteen_crashes_of_four_workers_in_thirty_seconds_degrade_the_pool_and_name_the_shared_message() -> None:
    rate = CrashRate()
    for number in range(19):
        rate.add(record(message_id="order-17" if number % 4 == 0 else f"m-{number}"), number > 9, number * 1.5)

    (symptom,) = seen(rate, 30.0)

    assert (symptom.name, symptom.degrades) == (Event.POOL_CRASHING, True)
    assert symptom.text == (
        "19 unplanned exits within 1m: 19 x crash (SIGSEGV); while they ran the same messages: "
        "'order-17' (5 times); `preforkd exits` has them all"
    )


def test_as_many_as_the_intensity_allows_are_none_and_planned_ones_never_count() -> None:
    rate = CrashRate()
    for number in range(10):
        rate.add(record(), True, float(number))
    for cause in (Cause.RECYCLED, Cause.CLEAN_STOP, Cause.STOP_KILLED, Cause.LOST):
        for number in range(20):
            rate.add(record(cause), True, float(number))
    assert seen(rate, 20.0) == []


def test_all_workers_of_a_large_pool_may_die_once() -> None:
    rate = CrashRate()
    for _ in range(100):
        rate.add(record(), True, 1.0)
    assert seen(rate, 2.0, PoolConfig("email", "email", "m:f", workers=100)) == []


def test_it_heals_when_half_of_them_are_forgotten_and_not_at_the_border() -> None:
    rate, symptoms = CrashRate(), Symptoms()
    for number in range(12):
        rate.add(record(), True, number * 5.0)
    present = []
    for now_s in (55.0, 66.0, 80.0, 91.0):
        rate.judge(POOL, symptoms, now_s)
        present.append(len(symptoms.present))
    assert present == [1, 1, 1, 0]
    assert rate.due_s == pytest.approx(35.0 + 60.0)


def test_deaths_without_any_progress_are_the_business_of_back_off_and_hold() -> None:
    rate = CrashRate()
    for number in range(30):
        rate.add(record(), False, float(number))
    assert seen(rate, 30.0) == []


def test_the_kind_of_message_that_several_died_of_is_named() -> None:
    rate = CrashRate()
    for number in range(12):
        rate.add(record(message_id=f"m-{number}"), True, float(number))
        rate.add_kind("type 'resize'" if number % 2 else f"routing key 'k{number}'", float(number))
    (symptom,) = seen(rate, 12.0)
    assert "; while they ran messages of type 'resize' (6 times); " in symptom.text


def test_a_consumer_that_dies_every_half_minute_after_progress_is_a_symptom_of_its_own() -> None:
    rate, names = CrashRate(SERVICES), []
    for number in range(6):
        rate.add(record(), True, number * 30.0)
        names.append([symptom.name for symptom in seen(rate, number * 30.0)])
    assert names == [[], [], [], [], [], [Event.SERVICE_CRASHING]]
    (symptom,) = seen(rate, 150.0)
    assert symptom.text.startswith("6 unplanned exits of forkserver and consumer within 10m: 6 x crash (SIGSEGV);")
