"""A pool's child specs between deaths: the end of the start, taking messages, failed starts, progress."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.link.frames import Pause, Resume
from supervisor.master.limits.boots import Probation
from supervisor.master.pool.children import Child, ChildSpec, Plan
from supervisor.master.pool.owner import stays_empty
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import STEADY_S
from supervisor.master.pool.state import follow_intake
from supervisor.master.startup import outcome
from supervisor.system.clock import monotonic_s
from tests.support.master_pool import make_pool


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with closing(make_pool(tmp_path, "email")) as made:
        yield made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Pool]:
    with closing(make_pool(tmp_path, "sms")) as made:
        yield made


def fill(spec: ChildSpec, ready_s: float | None = 0.0) -> None:
    """This child spec has a child; `ready_s`: since when it is ready, None for not yet."""
    spec.child = Child("email", spec.kind, spec.slot, 4711, 1, 1, 0.0, ready_s)


def hold(spec: ChildSpec, why: str, incurable: bool = False) -> None:
    """This child spec is given up."""
    spec.held, spec.why, spec.incurable, spec.child = True, why, incurable, None


# ---- the end of the start -------------------------------------------------------------------------------------------


def test_a_start_is_under_way_until_every_wanted_child_is_ready(pool: Pool) -> None:
    for spec in pool.specs:
        assert outcome([pool]) is None
        fill(spec)

    started = outcome([pool])
    assert started is not None
    assert started == ({}, None)


def test_a_child_that_is_there_and_not_ready_does_not_end_the_start(pool: Pool) -> None:
    for spec in pool.specs:
        fill(spec)
    fill(pool.workers[1], ready_s=None)

    assert outcome([pool]) is None


def test_a_slot_of_a_former_daemons_worker_is_not_waited_for(pool: Pool) -> None:
    for spec in (pool.forkserver, pool.consumer, pool.workers[0]):
        fill(spec)
    assert outcome([pool]) is None
    pool.surviving[1] = None  # type: ignore[assignment]

    assert outcome([pool]) is not None


def test_a_start_in_which_every_pool_is_held_has_failed_with_the_reason_of_each(pool: Pool) -> None:
    hold(pool.consumer, "no such queue")

    started = outcome([pool])
    assert started is not None
    assert started.failure == ("pools.email: no such queue", 1)


def test_one_held_pool_ends_the_start_of_the_others_neither_early_nor_in_failure(pool: Pool, other: Pool) -> None:
    hold(pool.consumer, "no such queue")
    assert outcome([pool, other]) is None, "the other pool is still on its way"

    for spec in other.specs:
        fill(spec)
    started = outcome([pool, other])
    assert started is not None
    assert started == ({"email": "no such queue"}, None)


def test_a_reason_that_names_its_key_is_not_given_another_name(pool: Pool) -> None:
    hold(pool.consumer, "pools.email.queue: no such queue")

    started = outcome([pool])
    assert started is not None
    assert started.failure == ("pools.email.queue: no such queue", 1)


def test_only_what_an_operator_must_edit_ends_the_start_with_78(pool: Pool) -> None:
    hold(pool.consumer, "a wrong key", incurable=True)

    started = outcome([pool])
    assert started is not None
    assert started.failure == ("pools.email: a wrong key", os.EX_CONFIG)


# ---- taking messages ------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The frames to the pool's consumer."""
    frames: list[Any] = []
    monkeypatch.setattr(pool.consumer_channel, "send", lambda *those: frames.extend(those))
    return frames


def test_a_pool_whose_workers_are_all_held_takes_no_messages_until_one_is_ready(pool: Pool, sent: list[Any]) -> None:
    for spec in pool.workers:
        hold(spec, "crashes")
    follow_intake(pool, 0.0)
    follow_intake(pool, 0.0)
    assert sent == [Pause()]

    fill(pool.workers[0], ready_s=None)
    follow_intake(pool, 0.0)
    assert sent == [Pause()], "one that boots may die as the others did"

    fill(pool.workers[0])
    follow_intake(pool, 0.0)
    assert sent == [Pause(), Resume()]


def test_messages_are_taken_while_dead_workers_are_replaced(pool: Pool, sent: list[Any]) -> None:
    assert [spec.child for spec in pool.workers] == [None, None]
    follow_intake(pool, 0.0)

    assert sent == []


def test_messages_are_taken_until_the_last_held_worker_is_gone(pool: Pool, sent: list[Any]) -> None:
    for spec in pool.workers:
        hold(spec, "crashes")
    fill(pool.workers[1], ready_s=None)
    follow_intake(pool, 0.0)
    assert sent == []

    pool.workers[1].child = None
    follow_intake(pool, 0.0)
    assert sent == [Pause()]


def test_a_pool_with_one_worker_left_goes_on_taking_messages(pool: Pool, sent: list[Any]) -> None:
    hold(pool.workers[0], "crashes")
    fill(pool.workers[1])
    follow_intake(pool, 0.0)

    assert sent == []


def test_a_ready_worker_does_not_end_an_operators_pause(pool: Pool, sent: list[Any]) -> None:
    pool.intake.pause("ann")
    fill(pool.workers[0])
    follow_intake(pool, 0.0)

    assert sent == [Pause()]
    pool.intake.resume()
    follow_intake(pool, 0.0)
    assert sent == [Pause(), Resume()]


@pytest.mark.parametrize(("name", "value"), [("leaving", True), ("plan", Plan(consumer_leaves=True))])
def test_a_consumer_that_drains_is_told_nothing(pool: Pool, sent: list[Any], name: str, value: object) -> None:
    setattr(pool, name, value)
    pool.intake.pause("ann")
    follow_intake(pool, 0.0)

    assert sent == []
    assert pool.consumer_channel.takes


# ---- failed starts and progress -------------------------------------------------------------------------------------


def test_a_child_that_could_not_be_started_says_why_and_is_tried_again(pool: Pool) -> None:
    spec = pool.workers[0]
    spec.ordered, spec.due_s = 9, None
    before_s = monotonic_s()
    stays_empty(pool, spec, "no more processes")

    assert (spec.ordered, spec.why) == (None, "no more processes")
    assert spec.due_s is not None
    assert spec.due_s >= before_s


def test_starts_that_fail_again_and_again_hold_the_child(pool: Pool) -> None:
    stays_empty(pool, pool.workers[0], "no more processes")
    assert (pool.workers[0].held, pool.holds) == (False, 0)

    for _ in range(20):
        stays_empty(pool, pool.workers[0], "no more processes")

    assert pool.workers[0].held
    assert pool.holds > 0
    assert pool.workers[0].due_s is not None, "a held child spec is still tried, more rarely"


def test_a_child_that_stays_ready_clears_the_deaths_before_it(pool: Pool) -> None:
    spec = pool.workers[0]
    spec.deaths, spec.why = 3, "crashed"
    fill(spec, ready_s=100.0)
    assert Probation([pool]).due_s == 100.0 + STEADY_S

    Probation([pool]).turn(100.0 + STEADY_S - 0.1)
    assert spec.deaths == 3
    Probation([pool]).turn(100.0 + STEADY_S)

    assert (spec.deaths, spec.why) == (0, "")
    assert Probation([pool]).due_s == float("inf")


@pytest.mark.parametrize("ready_s", [None, 100.0])
def test_a_child_that_is_not_proven_clears_nothing(pool: Pool, ready_s: float | None) -> None:
    spec = pool.consumer
    hold(spec, "crashed")
    fill(spec, ready_s)
    Probation([pool]).turn(100.5)

    assert spec.held


def test_without_deaths_no_time_is_waited_for(pool: Pool) -> None:
    fill(pool.workers[0], ready_s=100.0)

    assert Probation([pool]).due_s == float("inf")
