"""When the master looks at time limits, whom it finds overdue, and whom it forgives because it was late itself."""

from __future__ import annotations

from supervisor.config.schema import PoolConfig
from supervisor.link.frames import RunId
from supervisor.master.limits.deadlines import LATE_S, Deadlines, Graces, horizon_s
from supervisor.scoreboard.words import LimitSource, Running

POOL = PoolConfig(name="email", queue="email", handler="m:f", timeout_s=30.0, kill_grace_s=2.0)


def run_until(deadline_s: float, publishing: bool = False) -> Running:
    return Running(1, RunId(b"k" * 24, 1, 1), "id", 0.0, 0.0, deadline_s, LimitSource.POOL, publishing)


def looked(at_s: float) -> Deadlines:
    deadlines = Deadlines(at_s)
    deadlines.arrive(at_s, [POOL])
    return deadlines


def test_a_run_is_overdue_only_after_the_grace() -> None:
    deadlines = looked(100.0)
    assert not deadlines.overdue(run_until(100.0), POOL, 101.9)
    assert deadlines.overdue(run_until(100.0), POOL, 102.0)


def test_a_run_without_a_limit_is_never_overdue() -> None:
    assert not looked(0.0).overdue(run_until(0.0), POOL, 1e9)


def test_the_next_look_is_when_the_earliest_known_limit_is_due() -> None:
    deadlines = looked(100.0)
    deadlines.overdue(run_until(120.0), POOL, 100.0)
    deadlines.overdue(run_until(105.0), POOL, 100.0)
    assert deadlines.due_s == 107.0


def test_an_idle_pool_is_looked_at_no_more_often_than_a_limit_can_arise() -> None:
    assert looked(100.0).due_s == 132.0
    assert horizon_s(POOL) == 32.0


def test_messages_with_limits_of_their_own_may_be_due_sooner() -> None:
    own = PoolConfig(
        name="email", queue="email", handler="m:f", timeout_s=30.0, kill_grace_s=2.0, timeout_header="x-limit"
    )
    assert horizon_s(own) == 2.0


def test_a_master_that_was_late_gives_all_children_one_more_grace() -> None:
    deadlines = looked(100.0)
    late_s = deadlines.due_s + LATE_S + 50.0
    deadlines.arrive(late_s, [POOL])
    assert not deadlines.overdue(run_until(110.0), POOL, late_s)
    assert deadlines.due_s == late_s + 2.0
    deadlines.arrive(late_s + 2.0, [POOL])
    assert deadlines.overdue(run_until(110.0), POOL, late_s + 2.0)


def test_a_look_that_is_on_time_forgives_nothing() -> None:
    deadlines = looked(100.0)
    deadlines.arrive(deadlines.due_s + LATE_S / 2, [POOL])
    assert deadlines.overdue(run_until(110.0), POOL, 133.0)


def test_a_master_that_is_late_at_every_look_forgives_a_run_once() -> None:
    deadlines, run = looked(100.0), run_until(110.0)
    ended_s, now_s = [], 100.0
    for _ in range(600):
        now_s = deadlines.due_s + LATE_S + 0.2
        deadlines.arrive(now_s, [POOL])
        if deadlines.overdue(run, POOL, now_s):
            ended_s.append(now_s)
    assert ended_s[0] <= 110.0 + 2 * (POOL.kill_grace_s + LATE_S + 0.2) + horizon_s(POOL)


def test_lateness_is_forgiven_to_each_run_that_it_made_overdue() -> None:
    deadlines = looked(100.0)
    for number in range(3):
        late_s = deadlines.due_s + LATE_S + 5.0
        deadlines.arrive(late_s, [POOL])
        run = Running(number, RunId(bytes([number]) * 24, 1, 1), "id", 0.0, 0.0, late_s - 4.0, LimitSource.POOL, False)
        assert not deadlines.overdue(run, POOL, late_s)
        deadlines.arrive(late_s + 2.0, [POOL])
        assert deadlines.overdue(run, POOL, late_s + 2.0)


def test_a_beat_that_stands_still_is_forgiven_once_however_late_the_looks_are() -> None:
    graces = Graces()
    for late_s in (100.0, 101.5, 103.0):
        graces.notice(late_s - LATE_S - 0.2, late_s)
        assert graces.start_s((4711, 50.0), 50.0) == 100.0
    assert graces.start_s((4711, 102.0), 102.0) == 103.0, "it has moved since: another incident"
