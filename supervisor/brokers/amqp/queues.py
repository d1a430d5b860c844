"""The queues that a pool needs on RabbitMQ, with the arguments for missing ones. Pure.

Runs in the consumer and the command line; declarer.py sees to them. An operator may have made them otherwise:
they are used as they are, and what that costs is said (promises.py).
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.brokers.names import configured_delays_s, dead_queue, delay_step_s, parked_queue, retry_queue
from supervisor.config.schema import Binding, PoolConfig

NO_DELIVERY_LIMIT = 1_000_000
"""RabbitMQ 4 drops a message after 20 returns by default; -1 does so at the first on 3.10. preforkd counts attempts."""

QUORUM: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": NO_DELIVERY_LIMIT}


class QueuePlan(msgspec.Struct, frozen=True):
    """A queue that must be there, and how to make it.

    `declare` False: only look for it. `alone`: it may have no consumer yet; quorum queues let exclusive consumers
    share (3.10), so the broker's own refusal is not enough. `comes_back_to`: the queue to which a delay queue's
    messages expire.
    """

    name: str
    arguments: dict[str, Any]
    bindings: tuple[Binding, ...] = ()
    declare: bool = True
    alone: bool = False
    comes_back_to: str = ""


def work_queue(pool: PoolConfig) -> QueuePlan:
    """The pool's own queue."""
    arguments = dict(pool.queue_arguments) or dict(QUORUM)
    if arguments.get("x-queue-type") == "quorum":
        arguments.setdefault("x-delivery-limit", NO_DELIVERY_LIMIT)
    return QueuePlan(pool.queue, arguments, pool.bindings, pool.declare, pool.exclusive)


def delay_queue(queue: str, delay_s: float) -> QueuePlan:
    """The queue in which copies wait at least `delay_s`, to expire into `queue`.

    Of this kind only: classic ones, and quorum ones with the default strategy, lose confirmed messages when the broker
    is killed while they expire.
    """
    return QueuePlan(
        retry_queue(queue, delay_s),
        {
            **QUORUM,
            "x-message-ttl": round(delay_step_s(delay_s) * 1000),
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": queue,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
        comes_back_to=queue,
    )


def declared_text(plan: QueuePlan) -> str:
    """The text for publishers about a queue that has just been made."""
    arguments = ", ".join(f"{name} = {value!r}" for name, value in plan.arguments.items())
    return (
        f"queue {plan.name!r} did not exist and was declared: durable, {arguments or 'no arguments'}; publishers"
        " declare it with just these arguments or not at all: anything else is refused (406 PRECONDITION_FAILED)"
    )


def pool_queues(pool: PoolConfig) -> list[QueuePlan]:
    """All queues that must exist before a pool consumes, so that missing rights are found at the start."""
    own = [QueuePlan(dead_queue(pool.queue), QUORUM), QueuePlan(parked_queue(pool.queue), QUORUM)]
    return [work_queue(pool), *own, *(delay_queue(pool.queue, delay_s) for delay_s in configured_delays_s(pool))]
