"""A drill's plan is drawn from its seed alone, and holds every fault."""

from __future__ import annotations

from collections import Counter

import pytest

from supervisor.drill.plan import EACH, InnerFault, OuterFault, draw
from supervisor.errors import PreforkdError


def test_the_same_seed_draws_the_same_plan() -> None:
    assert draw(500, 7) == draw(500, 7)


def test_another_seed_draws_another_plan() -> None:
    assert draw(500, 7) != draw(500, 8)


@pytest.mark.parametrize("messages", [200, 2000, 20_000])
def test_every_fault_is_in_every_plan(messages: int) -> None:
    plan = draw(messages, 1)

    assert Counter(order.fault for order in plan.orders if order.fault) == dict.fromkeys(InnerFault, EACH)
    assert {strike.fault for strike in plan.strikes} == set(OuterFault)


def test_ids_are_unique() -> None:
    assert len({order.id for order in draw(2000, 1).orders}) == 2000


@pytest.mark.parametrize("seed", range(20))
def test_no_message_orders_a_fault_around_the_death_of_the_master(seed: int) -> None:
    messages = 1000
    plan = draw(messages, seed)
    (death,) = [strike.due for strike in plan.strikes if strike.fault is OuterFault.KILL_MASTER]

    near = plan.orders[death - 40 : death + 100]

    assert not any(order.fault for order in near)


def test_strikes_come_in_the_order_in_which_they_are_due() -> None:
    dues = [strike.due for strike in draw(1000, 3).strikes]

    assert dues == sorted(dues)


def test_too_few_messages_are_refused_with_the_least_number() -> None:
    with pytest.raises(PreforkdError, match="at least 200"):
        draw(50, 1)
