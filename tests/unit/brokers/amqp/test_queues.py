"""The queues that a pool gets: their kinds are what keeps confirmed messages through a broker's death."""

from __future__ import annotations

import re
from typing import Any

import pytest

from supervisor.brokers.amqp.queues import (
    NO_DELIVERY_LIMIT,
    QUORUM,
    QueueFacts,
    QueuePlan,
    broken_promises,
    delay_queue,
    pool_queues,
    work_queue,
)
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


# ---- promises -----------------------------------------------------------------------------------------------------

PLAN = QueuePlan("q", QUORUM)

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "not durable": ({"durable": False}, "not durable"),
    "auto-delete": ({"auto_delete": True}, "auto-delete"),
    "expires": ({"arguments": {"x-expires": 90_000}}, r"1m30s \(x-expires\)"),
    "a TTL": ({"arguments": {"x-message-ttl": 500}}, "deletes what waits longer than"),
    "a TTL and a dead-letter exchange": (
        {"arguments": {"x-message-ttl": 60_000, "x-dead-letter-exchange": "dlx"}},
        "moves to exchange 'dlx' what waits longer than",
    ),
    "a length": ({"arguments": {"x-max-length": 10}}, "beyond 10 messages"),
    "a delivery limit of none": ({"arguments": {"x-delivery-limit": 0}}, r"comes back 1 time\(s\)"),
    "a size": ({"arguments": {"x-max-length-bytes": 1024}}, "beyond 1"),
    "a length with dead-lettering": (
        {"arguments": {"x-max-length": 10, "x-overflow": "reject-publish-dlx"}},
        "beyond 10 messages",
    ),
}


def facts(durable: bool = True, auto_delete: bool = False, arguments: dict[str, Any] | None = None) -> QueueFacts:
    return QueueFacts(durable, auto_delete, "quorum", arguments or {})


@pytest.mark.parametrize("case", BROKEN)
def test_a_promise_that_a_queue_breaks_is_named(case: str) -> None:
    changes, told = BROKEN[case]
    (text,) = broken_promises(PLAN, facts(**changes))
    assert re.search(told, text), text
    assert text.startswith("queue 'q' ")


@pytest.mark.parametrize(
    "arguments",
    [{}, dict(QUORUM), {"x-max-length": 10, "x-overflow": "reject-publish"}, {"x-dead-letter-exchange": "x"}],
)
def test_a_queue_that_keeps_its_messages_breaks_no_promise(arguments: dict[str, Any]) -> None:
    assert broken_promises(PLAN, facts(arguments=arguments)) == []


def test_a_delay_queue_as_we_make_it_breaks_no_promise() -> None:
    plan = delay_queue("q", 1.0)
    assert broken_promises(plan, facts(arguments=plan.arguments)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x-dead-letter-routing-key": "other"}, "does not give retries back"),
        ({"x-dead-letter-exchange": "dlx"}, "does not give retries back"),
        ({"x-message-ttl": None}, "does not give retries back"),
        ({"x-dead-letter-strategy": None}, "may lose retries"),
        ({"x-max-length": 5, "x-overflow": None}, "drops retries"),
        ({"x-expires": 1000}, "drops retries"),
    ],
)
def test_a_delay_queue_of_another_kind_is_named_with_the_remedy(change: dict[str, Any], told: str) -> None:
    plan = delay_queue("q", 1.0)
    arguments = {name: value for name, value in (plan.arguments | change).items() if value is not None}

    (text,) = broken_promises(plan, facts(arguments=arguments))
    assert told in text
    assert "delete it when it is empty" in text
