"""When a pool takes messages: an operator's pause and workers that cannot work, each for itself."""

from __future__ import annotations

import pytest

from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.master.pool.consumer_channel import Intake


def worker(alive: bool = False, ready: bool = False) -> ChildSpec:
    spec = ChildSpec("email", Kind.WORKER, 0)
    if alive or ready:
        spec.started(Child("email", Kind.WORKER, 0, 4711, 1, 1, 0.0, ready_s=1.0 if ready else None))
    return spec


@pytest.mark.parametrize(
    ("spec", "can_work", "wanted"),
    [
        (worker(), True, True),
        (worker(), False, False),
        (worker(alive=True), False, True),
        (worker(ready=True), False, True),
    ],
)
def test_messages_are_taken_unless_no_worker_is_left_that_can_work(
    spec: ChildSpec, can_work: bool, wanted: bool
) -> None:
    intake = Intake()
    intake.follow([spec], can_work)
    assert intake.wanted is wanted


def test_an_idle_pool_takes_messages_again_only_when_a_worker_is_ready() -> None:
    intake = Intake()
    intake.follow([worker()], can_work=False)
    intake.follow([worker(alive=True)], can_work=True)
    assert not intake.wanted
    intake.follow([worker(ready=True)], can_work=True)
    assert intake.wanted


def test_a_pause_lasts_until_it_is_resumed() -> None:
    intake = Intake()
    intake.pause("ann")
    intake.follow([worker(ready=True)], can_work=True)
    assert not intake.wanted
    assert intake.paused is not None
    assert intake.paused.by == "ann"
    intake.resume()
    assert intake.wanted
