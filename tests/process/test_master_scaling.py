"""Scaling turned alone: replacing a consumer and workers outlives the reload that began it, and ends by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.link.frames import Drained
from supervisor.master.pool.children import Child, ChildSpec, Kind, Plan
from supervisor.master.pool.pool import Pool
from supervisor.master.reload.scaling import Rollout, Scaling
from supervisor.master.stop.terminations import Terminations
from supervisor.scoreboard.words import Intent
from tests.support.master_pool import make_pool

UNTIL_S = 50.0


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    pool = make_pool(tmp_path)
    yield pool
    pool.close()


@pytest.fixture
def scaling(pool: Pool) -> Scaling:
    return Scaling([pool], Terminations(pool.children))


def fill(spec: ChildSpec, origin: int = 0, ready_s: float | None = 0.0) -> Child:
    """This child spec has a child of this generation's forkserver; no process has its pid."""
    child = Child("email", spec.kind, spec.slot, 2**22 + (spec.slot or 0), 1, 1, 0.0, ready_s, origin=origin)
    spec.child, spec.due_s = child, None
    return child


# ---- the consumer ---------------------------------------------------------------------------------------------------


def test_a_consumer_is_asked_to_leave_once_it_has_drained(pool: Pool, scaling: Scaling) -> None:
    consumer = fill(pool.consumer)
    scaling.replace_consumer(pool, UNTIL_S)
    scaling.turn(1.0)
    assert (consumer.intent, pool.plan.consumer_leaves, scaling.due_s) == (Intent.NONE, True, UNTIL_S)
    pool.consumer_channel.reported(Drained(1, 0, []))
    scaling.turn(2.0)
    assert (consumer.intent, consumer.requested_by) == (Intent.STOP, "reload")
    assert (pool.plan, scaling.replaces(pool), scaling.due_s) == (Plan(), False, float("inf"))


def test_a_consumer_whose_drain_takes_too_long_is_asked_to_leave(pool: Pool, scaling: Scaling) -> None:
    consumer = fill(pool.consumer)
    scaling.replace_consumer(pool, UNTIL_S)
    scaling.turn(UNTIL_S - 0.1)
    assert consumer.intent is Intent.NONE
    scaling.turn(UNTIL_S)
    assert consumer.intent is Intent.STOP


def test_the_successor_of_a_consumer_that_died_in_its_drain_stays(pool: Pool, scaling: Scaling) -> None:
    fill(pool.consumer)
    scaling.replace_consumer(pool, UNTIL_S)
    successor = fill(pool.consumer)
    scaling.turn(1.0)
    assert (successor.intent, pool.plan.consumer_leaves) == (Intent.NONE, False)


def test_a_pool_without_a_consumer_has_none_to_replace(pool: Pool, scaling: Scaling) -> None:
    scaling.replace_consumer(pool, UNTIL_S)
    assert (scaling.replaces(pool), pool.plan) == (False, Plan())


# ---- workers --------------------------------------------------------------------------------------------------------


def test_workers_of_older_code_leave_as_new_ones_become_ready_until_none_is_left(pool: Pool, scaling: Scaling) -> None:
    old = [fill(spec, origin=3) for spec in pool.workers]
    scaling.replace_workers(pool, Rollout(outdated_below=7, capacity=2))
    scaling.turn(1.0)
    assert (pool.plan.spares, [child.intent for child in old]) == (frozenset({2}), [Intent.NONE] * 2)
    assert [spec.name for spec in scaling.outdated(pool)] == ["email/0", "email/1"]

    spare = fill(pool.workers[2], origin=7)
    scaling.turn(2.0)
    assert sorted(child.intent for child in old) == [Intent.NONE, Intent.STOP]

    for spec in pool.workers[:2]:
        fill(spec, origin=7)
    scaling.turn(3.0)
    assert (spare.intent, spare.requested_by, pool.plan.spares) == (Intent.STOP, "reload", frozenset())
    assert scaling.replaces_workers(pool), "the spare worker is still there"
    pool.workers[2].child = None
    scaling.turn(4.0)
    assert (scaling.replaces(pool), len(pool.workers)) == (False, 2)


def test_one_replacement_gives_way_to_the_next(pool: Pool, scaling: Scaling) -> None:
    for spec in pool.workers:
        fill(spec, origin=7)
    scaling.replace_workers(pool, Rollout(outdated_below=7, capacity=2))
    scaling.replace_workers(pool, Rollout(outdated_below=9, capacity=2))
    assert len(scaling.outdated(pool)) == 2


def test_a_pool_that_leaves_replaces_nothing(pool: Pool, scaling: Scaling) -> None:
    consumer, old = fill(pool.consumer), fill(pool.workers[0], origin=3)
    scaling.replace_workers(pool, Rollout(outdated_below=7, capacity=0))
    scaling.replace_consumer(pool, UNTIL_S)
    pool.leave()
    scaling.turn(UNTIL_S)
    assert (consumer.intent, old.intent, scaling.replaces(pool)) == (Intent.NONE, Intent.NONE, False)


def test_a_pool_on_trial_is_not_scaled(pool: Pool, scaling: Scaling) -> None:
    pool.follow_plan(Plan(on_trial=True, canary=0))
    pool.slots.grow(3)
    pool.workers.append(ChildSpec("email", Kind.WORKER, 2))
    surplus = fill(pool.workers[2])
    scaling.turn(1.0)
    assert surplus.intent is Intent.NONE
    pool.follow_plan(Plan())
    scaling.turn(2.0)
    assert (surplus.intent, surplus.requested_by) == (Intent.STOP, "preforkd scale")
