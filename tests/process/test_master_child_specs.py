"""A pool's child specs while workers come and go: wanted ones, their forkserver, orders that a death cancels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from supervisor.master.pool.adoption import cancel_spawns
from supervisor.master.pool.children import Child, ChildSpec, Kind, Plan
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.starts import source
from supervisor.system import posix
from tests.support.master_pool import make_pool


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    pool = make_pool(tmp_path)
    yield pool
    pool.close()


def forkserver(generation: int) -> Child:
    return Child("email", Kind.FORKSERVER, None, 4711, 1, generation, 0.0)


def test_a_dead_forkserver_makes_only_its_own_orders_void(pool: Pool) -> None:
    for spec, order, origin in ((pool.workers[0], 5, 3), (pool.workers[1], 6, 4)):
        spec.ordered, spec.origin, spec.due_s = order, origin, None
    cancel_spawns(pool, forkserver(3), 100.0)
    assert [(spec.ordered, spec.due_s) for spec in pool.workers] == [(None, 100.0), (6, None)]


def test_a_worker_that_a_dead_forkserver_had_forked_is_adopted(pool: Pool) -> None:
    pool.workers[0].order(5, origin=3)
    assert pool.slots[0].take(os.getpid(), posix.start_ticks(os.getpid()) or 0, 5)
    cancel_spawns(pool, forkserver(3), 100.0)
    adopted = pool.workers[0].child
    assert adopted is not None
    assert (adopted.pid, adopted.generation, pool.workers[0].due_s) == (os.getpid(), 5, None)


def test_child_specs_follow_what_is_wanted_and_keep_living_children(pool: Pool) -> None:
    pool.follow_plan(Plan(spares=frozenset({2}), canary=4))
    pool.make_room()
    assert [(spec.slot, pool.wants(spec)) for spec in pool.workers] == [
        (0, True),
        (1, True),
        (2, True),
        (3, False),
        (4, True),
    ]
    assert [path.name for path in sorted((pool.dir / "slots").iterdir())] == [f"{n}.slot" for n in range(5)]
    pool.follow_plan(Plan())
    pool.workers[3].ordered = 9
    pool.make_room()
    assert [spec.slot for spec in pool.workers] == [0, 1, 2, 3], "a child may still be forked there"
    pool.workers[3].ordered = None
    pool.config = msgspec.structs.replace(pool.config, workers=1)
    pool.make_room()
    assert [spec.slot for spec in pool.workers] == [0]


def test_only_the_canary_comes_from_the_candidate(pool: Pool) -> None:
    candidate = ChildSpec("email", Kind.FORKSERVER)
    pool.follow_plan(Plan(candidate=candidate, canary=2))
    pool.make_room()
    assert source(pool, pool.workers[2]) is candidate
    assert source(pool, pool.workers[0]) is pool.forkserver
    assert not pool.wants(candidate), "it is started by hand, and never again by itself"


def test_a_pool_on_trial_wants_its_forkserver_and_one_worker(pool: Pool) -> None:
    pool.follow_plan(Plan(on_trial=True, canary=0))
    wanted = [spec.name for spec in pool.specs if pool.wants(spec)]
    assert wanted == ["email forkserver", "email/0"]


def test_a_pool_that_leaves_wants_no_children(pool: Pool) -> None:
    pool.leaving = True
    assert not any(pool.wants(spec) for spec in pool.specs)


def test_a_forkserver_whose_place_is_taken_has_no_child_spec(pool: Pool) -> None:
    former, present = forkserver(3), forkserver(4)
    pool.forkserver.child = present
    assert pool.spec_of(present) is pool.forkserver
    assert pool.spec_of(former) is None
