"""What the master says of a pool: its state, why, and the symptoms of master and consumer together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from supervisor.link.frames import ForkFailed, Snapshot
from supervisor.logs.events import Event
from supervisor.master.control.status import pool_status
from supervisor.master.pool.children import Child
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.reports import FORK_REPORTS
from supervisor.master.pool.starts import Spawner
from supervisor.master.pool.state import pool_state, pool_why
from supervisor.master.startup import outcome
from supervisor.symptoms import Symptom
from supervisor.system import clock
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor
from tests.support.master_pool import make_pool
from tests.support.statuses import snapshot


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """A pool that is ready."""
    pool = make_pool(tmp_path, workers=1)
    pool.was_ready = True
    pool.consumer_channel.snapshot = _told()
    yield pool
    pool.close()


def _told(*symptoms: Symptom, state: str = "connected", why: str = "") -> Snapshot:
    return snapshot(1.0, list(symptoms), state=state, why=why)


def test_a_pool_whose_consumer_has_said_nothing_yet_has_zeros_and_no_measures(pool: Pool) -> None:
    pool.consumer_channel.close()

    shown = msgspec.to_builtins(pool_status(pool, pool_state(pool, False), 1.0))

    assert (shown["measures"], shown["depth"]) == ({}, {"ready": 0, "consumers": 0})
    assert shown["consumer"]["connection"]["state"] == "connecting"
    assert (shown["consumer"]["at"], shown["consumer"]["in_flight"], shown["counters"]["done"]) == ("", 0, 0)


def test_a_pool_is_degraded_while_a_symptom_says_so(pool: Pool) -> None:
    pool.symptoms.notice(Event.QUEUE_SHARED, "2 consumers")
    assert (pool_state(pool, False), pool_why(pool)) == ("ok", "")

    pool.symptoms.notice(Event.CONSUMER_STARVED, "nothing comes", degrades=True)
    assert (pool_state(pool, False), pool_why(pool)) == ("degraded", "nothing comes")

    pool.symptoms.heal(Event.CONSUMER_STARVED)
    assert pool_state(pool, False) == "ok"


def test_the_symptoms_of_master_and_consumer_are_shown_together(pool: Pool) -> None:
    pool.symptoms.notice(Event.CONSUMER_STARVED, "nothing comes")
    pool.consumer_channel.snapshot = _told(Symptom("queue.shared", "2 consumers", True, 0.0))

    shown = pool_status(pool, pool_state(pool, False), 1.0)

    assert [each.name for each in shown.symptoms] == ["consumer.starved", "queue.shared"]
    shared = {"name": "queue.shared", "text": "2 consumers", "degrades": True, "since": "1970-01-01T00:00:00.000Z"}
    assert msgspec.to_builtins(shown.symptoms[1]) == shared
    assert shown.consumer.notes == ["nothing comes", "2 consumers"]
    assert (shown.state, shown.why) == ("degraded", "2 consumers")


def test_a_hold_and_a_lost_connection_are_worse_than_a_symptom(pool: Pool) -> None:
    pool.consumer_channel.snapshot = _told(
        Symptom("queue.shared", "2 consumers", True, 0.0), state="connecting", why="refused"
    )
    assert pool_why(pool) == "refused"

    pool.workers[0].held, pool.workers[0].why = True, "email/0 left: crash"
    assert (pool_state(pool, False), pool_why(pool)) == ("held", "email/0 left: crash")


def test_a_forkserver_whose_forks_all_fail_is_no_pool_that_is_ok(pool: Pool) -> None:
    pool.config = msgspec.structs.replace(pool.config, restart_intensity=(3, 60.0), hold_retry_s=99.0)
    (worker,) = pool.workers
    states = []
    for generation in range(1, 5):
        worker.ordered, worker.due_s = generation, None
        FORK_REPORTS[ForkFailed](pool, pool.forkserver, ForkFailed(0, generation, "fork failed: out of processes"))
        states.append(pool_state(pool, False))
    assert states == ["ok", "ok", "degraded", "held"]
    assert pool_why(pool) == "fork failed: out of processes"
    assert worker.due_s is not None
    assert 98.0 < worker.due_s - monotonic_s() <= 99.0


def test_a_hold_keeps_its_time_when_the_wall_clock_is_set(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    (worker,) = pool.workers
    worker.held, worker.due_s = True, monotonic_s() + 60.0
    monkeypatch.setattr(clock, "wall_s", lambda: 0.0)
    again_s = pool_status(pool, "held", monotonic_s()).workers[0].restart_in_s
    assert again_s is not None
    assert 59.0 < again_s <= 60.0


def test_places_that_a_scale_adds_are_tried_while_the_others_are_held(pool: Pool) -> None:
    pool.workers[0].held, pool.workers[0].due_s = True, 1e9
    pool.config = msgspec.structs.replace(pool.config, workers=2)
    pool.make_room()
    assert (pool.workers[1].due_s, pool.workers[0].due_s) == (0.0, 1e9)
    assert pool_state(pool, False) == "degraded"


def test_a_held_place_of_a_pool_that_a_reload_removed_is_not_wanted_any_more(pool: Pool) -> None:
    pool.workers[0].held, pool.workers[0].due_s = True, 0.0
    pool.leaving = True
    reactor = Reactor()
    try:
        assert Spawner({"email": pool}, [], reactor).due_s == float("inf")
    finally:
        reactor.close()


def test_a_degraded_start_is_over_when_every_place_is_filled_or_held(pool: Pool) -> None:
    pool.was_ready = False
    assert outcome([pool]) is None
    for spec in (pool.forkserver, pool.consumer):
        spec.child = Child("email", spec.kind, None, 1, 1, 1, 0.0, ready_s=0.0)
    pool.workers[0].held, pool.workers[0].why = True, "email/0 cannot boot: ConnectionError: no"
    started, reason = outcome([pool]), "pools.email: email/0 cannot boot: ConnectionError: no"
    assert started is not None
    assert started.failure == (reason, 1)
    pool.workers[0].incurable = True
    started = outcome([pool])
    assert started is not None
    assert started.failure == (reason, 78)
