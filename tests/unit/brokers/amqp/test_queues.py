"""The queues that a pool gets: their kinds are what keeps confirmed messages through a broker's death."""

from __future__ import annotations

from supervisor.brokers.amqp.queues import NO_DELIVERY_LIMIT, QUORUM, delay_queue, pool_queues, work_queue
from supervisor.config.schema import Binding
from tests.support.brokers import a_pool


def test_a_pool_needs_its_queue_dead_parked_and_the_configured_delays() -> None:
    pool = a_pool(queue="email", retry_delays_s=(1.0, 10.0, 9.0))

    names = [plan.name for plan in pool_queues(pool)]
    assert names == ["email", "email.dead", "email.parked", "email.retry.1000", "email.retry.10000"]


def test_a_delay_queue_is_of_the_only_kind_that_loses_nothing() -> None:
    plan = delay_queue("email", 7.0)

    assert plan.name == "email.retry.10000"
    assert plan.arguments == {
        "x-queue-type": "quorum",
        "x-delivery-limit": NO_DELIVERY_LIMIT,
        "x-message-ttl": 10_000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "email",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def test_every_quorum_queue_gets_a_delivery_limit() -> None:
    pool = a_pool(queue_arguments={"x-queue-type": "quorum", "x-max-length": 5})

    assert work_queue(pool).arguments == {
        "x-queue-type": "quorum",
        "x-max-length": 5,
        "x-delivery-limit": NO_DELIVERY_LIMIT,
    }
    assert all(plan.arguments["x-delivery-limit"] == NO_DELIVERY_LIMIT for plan in pool_queues(pool))


def test_a_delivery_limit_of_the_operators_own_stays() -> None:
    pool = a_pool(queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 7})

    assert work_queue(pool).arguments["x-delivery-limit"] == 7


def test_a_classic_queue_is_declared_as_it_was_asked_for() -> None:
    assert work_queue(a_pool(queue_arguments={"x-queue-type": "classic"})).arguments == {"x-queue-type": "classic"}


def test_without_arguments_a_queue_is_a_quorum_queue() -> None:
    assert work_queue(a_pool(queue_arguments={})).arguments == QUORUM


def test_bindings_and_rights_belong_to_the_work_queue_only() -> None:
    binding = Binding("mail", "mail.#")
    first, *others = pool_queues(a_pool(bindings=(binding,), declare=False, exclusive=True))

    assert (first.bindings, first.declare, first.alone) == ((binding,), False, True)
    assert all((plan.bindings, plan.declare, plan.alone) == ((), True, False) for plan in others)
