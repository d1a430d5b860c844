"""What `top` makes of status objects: rows, rates over the last seconds, and what is not as usual."""

from __future__ import annotations

from datetime import UTC, datetime

from supervisor.cli.top.view import Past, View, brief_seconds, make_view
from tests.support.statuses import (
    Status,
    busy,
    consumer,
    exits,
    forkserver,
    pool,
    sidecar,
    status,
    typed,
    worker,
)

NOW = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC)


def seen(*statuses: Status) -> View:
    """The view of the last of these, after the others."""
    past = Past()
    for each in statuses:
        past.add(typed(each))
    return make_view(typed(statuses[-1]), past, NOW)


def done(uptime_s: float, count: int, **pool_facts: object) -> Status:
    """A status `uptime_s` after the start, with so many messages done."""
    return status(uptime_s, email=pool(worker(), done=count, **pool_facts))


# ---- rates --------------------------------------------------------------------------------------------------------


def test_a_first_look_knows_no_rates() -> None:
    assert seen(done(1.0, 100)).pools[0].done_rate is None


def test_a_rate_is_what_was_done_over_the_time_it_took() -> None:
    assert seen(done(10.0, 100), done(12.0, 150)).pools[0].done_rate == 25.0


def test_rates_forget_what_is_older_than_a_few_seconds() -> None:
    past = [done(float(second), 1000) for second in range(20)]

    assert seen(*past, done(20.0, 1050)).pools[0].done_rate == 10.0
    assert seen(*past, *[done(20.0 + second, 1050) for second in range(8)]).pools[0].done_rate == 0.0


def test_another_daemon_begins_again() -> None:
    successor = done(1.0, 5) | {"pid": 2}

    assert seen(done(10.0, 100), successor).pools[0].done_rate is None


def test_another_consumer_begins_again_and_never_gives_a_negative_rate() -> None:
    replaced = done(12.0, 3, consumer=consumer(pid=11))

    assert seen(done(10.0, 100), replaced).pools[0].done_rate is None
    assert seen(done(10.0, 100), done(12.0, 3)).pools[0].done_rate is None


def test_a_worker_has_a_rate_of_its_own_and_its_successor_another() -> None:
    def handled(uptime_s: float, count: int, pid: int) -> Status:
        return status(uptime_s, email=pool(worker(handled=count, pid=pid)))

    assert seen(handled(10.0, 4, 100), handled(12.0, 8, 100)).pools[0].workers[0].rate == 2.0
    assert seen(handled(10.0, 4, 100), handled(12.0, 8, 101)).pools[0].workers[0].rate is None


# ---- rows ---------------------------------------------------------------------------------------------------------


def test_workers_are_sorted_busy_ones_first_and_the_longest_before_the_others() -> None:
    email = pool(worker(0), busy(1, 5.0), busy(2, 20.0), worker(3, state="backoff", restart_in_s=2.0), busy(4, 5.2))

    names = [row.name for row in seen(status(email=email)).pools[0].workers]

    assert names == ["email/2", "email/1", "email/4", "email/3", "email/0"]


def test_workers_that_finish_within_a_second_do_not_change_places() -> None:
    email = pool(busy(0, 0.1), busy(1, 0.9), busy(2, 0.5))

    assert [row.name for row in seen(status(email=email)).pools[0].workers] == ["email/0", "email/1", "email/2"]


def test_nearness_to_the_limit_is_between_nothing_and_all() -> None:
    rows = seen(status(email=pool(busy(0, 15.0), busy(1, 99.0), busy(2, 5.0, 0.0), worker(3)))).pools[0].workers

    assert {row.name: row.nearness for row in rows} == {"email/0": 0.5, "email/1": 1.0, "email/2": 0.0, "email/3": 0.0}


def test_only_workers_that_can_take_messages_count_as_ready() -> None:
    email = pool(worker(0), busy(1), worker(2, state="booting"), worker(3, state="held"), wanted=4)

    row = seen(status(email=email)).pools[0]

    assert (row.ready, row.status.wanted) == (2, 4)


def test_a_pool_that_is_well_needs_no_remark() -> None:
    assert seen(status(email=pool(worker()))).pools[0].remarks == ()


def test_everything_that_is_not_as_usual_is_remarked() -> None:
    email = pool(
        worker(),
        state="degraded",
        why="email/3 dies at once",
        paused={"by": "alice", "since": "10:00"},
        configured=4,
        forkserver=forkserver(pid=None, state="backoff", restarts=2),
        consumer=consumer(notes=["the disk is full"]),
    )

    remarks = seen(status(email=email)).pools[0].remarks

    assert remarks == (
        "email/3 dies at once",
        "the disk is full",
        "paused by alice, since 10:00",
        "scaled to 1, configured: 4",
        "forkserver backoff",
        "forkserver: 2 restart(s)",
    )


def test_a_connection_is_as_old_as_it_is_now_not_as_it_was_when_it_was_told() -> None:
    assert seen(status(email=pool(worker()))).pools[0].connection.since_s == 120.0


def test_a_reload_and_a_child_of_the_daemon_that_is_not_well_are_events() -> None:
    reload = {"stage": "trying", "since": "10:00", "requested_by": "SIGHUP", "waits_for": ["email/0"]}
    sidecars = [sidecar("web", state="held", why="port taken"), sidecar("hooks")]

    assert seen(status() | {"reload": reload, "sidecars": sidecars}).events == (
        "reload: trying since 10:00 (SIGHUP), waits for email/0",
        "web held (port taken)",
    )


def test_the_tally_is_by_cause_the_most_frequent_first() -> None:
    rows = [exits("crash", 2), exits("timeout", 4), exits("crash", 3)]

    assert seen(status(exits=rows)).tally == (("crash", 5), ("timeout", 4))


def test_the_selected_pool_may_leave() -> None:
    view = seen(status(a=pool(name="a"), b=pool(name="b")))

    assert [view.pool(name) for name in ("b", "gone", "")] == [view.pools[1], view.pools[0], view.pools[0]]
    assert seen(status()).pool("a") is None


def test_durations_take_few_cells() -> None:
    assert [brief_seconds(s) for s in (-1.0, 0.04, 9.94, 9.96, 59.99, 125.0, 90000.0)] == [
        *("0.0s", "0.0s", "9.9s", "9.9s", "59s", "2m5s", "1d1h")
    ]
