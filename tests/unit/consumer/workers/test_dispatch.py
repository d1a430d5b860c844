"""Who gets the next message, and how far read-ahead goes."""

from __future__ import annotations

import itertools

import pytest

from supervisor.config.schema import PoolConfig
from supervisor.consumer.workers.dispatch import Dispatcher
from supervisor.link.frames import Incarnation
from supervisor.scoreboard.layout import CELLS

A, B, C = Incarnation(0, 1), Incarnation(1, 2), Incarnation(2, 3)


def a_dispatcher(workers: int = 4, prefetch: int = 64) -> Dispatcher:
    dispatcher = Dispatcher(PoolConfig("p", "q", "h:h", workers=workers, prefetch=prefetch))
    for worker in (A, B, C):
        dispatcher.join(worker)
    return dispatcher


def places(dispatcher: Dispatcher, **load: int) -> list[Incarnation]:
    loads = {A: load.get("a", 0), B: load.get("b", 0), C: load.get("c", 0)}
    return list(itertools.islice(dispatcher.places(loads.__getitem__), 100))


@pytest.mark.parametrize(
    ("elapsed_s", "room"), [(None, 1), (30.0, 1), (0.020, 2), (0.010, 3), (0.005, 5), (0.0001, 16), (0.0, 16)]
)
def test_read_ahead_is_what_fits_into_20_ms(elapsed_s: float | None, room: int) -> None:
    dispatcher = a_dispatcher()
    if elapsed_s is not None:
        dispatcher.ended(A, elapsed_s)
    assert dispatcher.room(A) == room


def test_one_slow_run_ends_read_ahead_at_once_and_a_few_quick_ones_bring_it_back() -> None:
    dispatcher = a_dispatcher()
    dispatcher.ended(A, 0.0001)
    dispatcher.ended(A, 1.0)
    assert dispatcher.room(A) == 1
    for _ in range(40):
        dispatcher.ended(A, 0.0001)
    assert dispatcher.room(A) == 16


@pytest.mark.parametrize(("workers", "prefetch", "most"), [(4, 64, 16), (4, 2, 1), (3, 64, 22), (1, 10_000, CELLS - 1)])
def test_a_worker_never_has_more_than_its_share_nor_than_its_ring_holds(workers: int, prefetch: int, most: int) -> None:
    dispatcher = a_dispatcher(workers, prefetch)
    dispatcher.ended(A, 0.0)
    assert dispatcher.room(A) == most


def test_the_least_loaded_comes_first_until_no_worker_has_capacity() -> None:
    dispatcher = a_dispatcher()
    for worker in (A, B):
        dispatcher.ended(worker, 0.010)  # room for 3
    assert places(dispatcher, a=2, b=0, c=0) == [B, C, B, A, B]
    assert places(dispatcher, a=3, b=3, c=1) == []


@pytest.mark.parametrize(("elapsed_s", "handful"), [(0.010, 1), (0.001, 1), (0.0005, 2), (0.0001, 10), (0.0, 16)])
def test_less_than_a_millisecond_of_work_is_not_shared_out(elapsed_s: float, handful: int) -> None:
    dispatcher = a_dispatcher()
    for worker in (A, B, C):
        dispatcher.ended(worker, elapsed_s)
    order = places(dispatcher)
    assert order[: 2 * handful] == [A] * handful + [B] * handful


def test_a_new_worker_is_tried_with_one_message() -> None:
    assert places(a_dispatcher()) == [A, B, C]


def test_a_handful_ends_where_the_room_does() -> None:
    dispatcher = a_dispatcher()
    dispatcher.ended(A, 0.0001)
    assert places(dispatcher, a=12, b=1, c=1) == [A] * 4


def test_only_who_has_joined_and_not_left_gets_anything() -> None:
    dispatcher = a_dispatcher()
    dispatcher.leave(B)
    dispatcher.ended(B, 0.0)
    dispatcher.leave(B)
    assert B not in dispatcher
    assert places(dispatcher) == [A, C]


def test_joining_again_keeps_what_is_known() -> None:
    dispatcher = a_dispatcher()
    dispatcher.ended(A, 0.010)
    dispatcher.join(A)
    assert dispatcher.room(A) == 3
