"""Plans of chaos rides: the seed decides everything, and nothing that the shape asks for is left out."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.chaos.plan import OUTSIDE, TRAITS, Fault, Kind, Shape, cuts, draw

SHAPE = Shape(messages=1000, strikes=60)


def test_a_seed_means_the_same_ride_every_time() -> None:
    assert draw(7, SHAPE) == draw(7, SHAPE)
    assert draw(7, SHAPE) != draw(8, SHAPE)


def test_every_fault_has_its_traits() -> None:
    assert set(TRAITS) == set(Fault)


@pytest.mark.parametrize("seed", range(5))
def test_every_fault_of_the_shape_comes_at_least_once(seed: int) -> None:
    legs = draw(seed, SHAPE)
    struck = Counter(strike.fault for leg in legs for strike in leg.strikes)
    struck[Fault.DELETE_QUEUE] = sum(leg.delete_queue for leg in legs)

    assert set(+struck) == set(Fault)
    assert struck.total() == SHAPE.strikes


@pytest.mark.parametrize("seed", range(5))
def test_the_legs_have_all_messages_and_each_strike_falls_within_its_own(seed: int) -> None:
    published = 0
    for leg in draw(seed, SHAPE):
        assert all(published <= strike.due < published + len(leg.orders) for strike in leg.strikes)
        assert leg.strikes == sorted(leg.strikes)
        published += len(leg.orders)

    assert published == SHAPE.messages


def test_a_queue_is_deleted_only_between_legs() -> None:
    *before, last = draw(3, SHAPE)

    assert before
    assert all(leg.delete_queue for leg in before)
    assert not last.delete_queue


def test_only_the_faults_of_the_shape_are_drawn() -> None:
    shape = Shape(messages=1000, strikes=60, faults=OUTSIDE)

    kinds = {TRAITS[strike.fault].kind for leg in draw(1, shape) for strike in leg.strikes}
    assert kinds == {Kind.CONNECTION, Kind.BROKER, Kind.RESOURCE}


def test_shares_of_messages_without_id_and_of_failing_ones_are_kept() -> None:
    shape = Shape(messages=4000, strikes=0, bare=0.5, failing=0.1)
    orders = [order for leg in draw(1, shape) for order in leg.orders]

    assert len({order.name for order in orders}) == 4000
    assert 1800 < sum(order.bare for order in orders) < 2200
    assert 300 < sum(order.fails for order in orders) < 500
    assert max(order.hold_s for order in orders) == 0.05


def test_kills_explain_as_many_runs_as_they_can_cut_off() -> None:
    assert cuts([Fault.KILL_WORKER, Fault.KILL_WORKER, Fault.KILL_GROUP], workers=4) == 6
    assert cuts([Fault.KILL_CONSUMER, Fault.KILL_MASTER, Fault.RESET, Fault.STOP_GROUP], workers=4) == 0
