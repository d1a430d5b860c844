"""The queues that a pool needs on RabbitMQ, and which of preforkd's promises an existing queue breaks. Pure.

Runs in the consumer and the command line; declarer.py makes missing queues. An operator may have made them otherwise:
they are used as they are, and the risks are told. https://www.rabbitmq.com/docs/queues#optional-arguments
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from supervisor.brokers.names import configured_delays_s, dead_queue, delay_step_s, parked_queue, retry_queue
from supervisor.config.schema import Binding, PoolConfig
from supervisor.quantities import show_bytes, show_seconds

STREAM = "stream"
QUORUM_TYPE = "quorum"

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


class QueueFacts(msgspec.Struct, frozen=True):
    """A queue as it is. `type`: classic, quorum or stream; `arguments` are those given when it was declared."""

    durable: bool
    auto_delete: bool
    type: str
    arguments: dict[str, Any]


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


# ---- promises -------------------------------------------------------------------------------------------------------


def broken_promises(plan: QueuePlan, facts: QueueFacts) -> list[str]:
    """Risks to messages in a queue that preforkd did not make: a sentence each, with the remedy."""
    promises = _DELAY_PROMISES if plan.comes_back_to else _PROMISES
    values = _values(facts.arguments)
    return [f"queue {plan.name!r} {text.format(**values)}" for broken, text in promises if broken(plan, facts)]


def as_planned(plan: QueuePlan) -> QueueFacts:
    """A queue as its plan makes it: `queue_arguments` may break promises, too."""
    return QueueFacts(True, False, str(plan.arguments.get("x-queue-type", "classic")), plan.arguments)


def _number(arguments: dict[str, Any], name: str) -> int | None:
    """An argument that counts; anything else in its place is the broker's to refuse."""
    value = arguments.get(name)
    return value if type(value) is int else None


def _values(arguments: dict[str, Any]) -> dict[str, str]:
    """What the texts name. `gives_up`: the fate of messages that the queue gives up."""
    expires_ms, ttl_ms, returns, length, size_bytes = (
        _number(arguments, f"x-{name}") for name in ("expires", "message-ttl", "delivery-limit", *_LENGTHS)
    )
    exchange = arguments.get("x-dead-letter-exchange")
    return {
        "gives_up": "deletes" if exchange is None else f"moves to exchange {exchange!r}",
        "expires": show_seconds((expires_ms or 0) / 1000),
        "ttl": show_seconds((ttl_ms or 0) / 1000),
        "returns": str((returns or 0) + 1),
        "limit": f"{length} messages" if length is not None else show_bytes(size_bytes or 0),
    }


_LENGTHS = ("max-length", "max-length-bytes")


def _drops_when_full(facts: QueueFacts) -> bool:
    limits = [_number(facts.arguments, f"x-{name}") for name in _LENGTHS]
    return limits != [None, None] and facts.arguments.get("x-overflow") != "reject-publish"


def _comes_back(plan: QueuePlan, facts: QueueFacts) -> bool:
    exchange, key = (facts.arguments.get(f"x-dead-letter-{part}") for part in ("exchange", "routing-key"))
    return exchange == "" and key == plan.comes_back_to and "x-message-ttl" in facts.arguments


def _keeps_confirmed_ones(facts: QueueFacts) -> bool:
    at_least_once = facts.arguments.get("x-dead-letter-strategy") == "at-least-once"
    return facts.durable and not facts.auto_delete and facts.type == "quorum" and at_least_once


_Promises = tuple[tuple[Callable[[QueuePlan, QueueFacts], object], str], ...]

_PROMISES: _Promises = (
    (
        lambda _, facts: not facts.durable,
        "is not durable: it and its messages end with the broker; declare a durable one, best a quorum queue",
    ),
    (
        lambda _, facts: facts.auto_delete,
        "is auto-delete: it is deleted with its messages as soon as it has no consumer, at each restart and each lost "
        "connection; declare one that is not",
    ),
    (
        lambda _, facts: _number(facts.arguments, "x-expires") is not None,
        "is deleted with its messages when it has no consumer for {expires} (x-expires); declare one without it",
    ),
    (
        lambda _, facts: _number(facts.arguments, "x-message-ttl") is not None,
        "{gives_up} what waits longer than {ttl} (x-message-ttl), without a run",
    ),
    (
        lambda _, facts: facts.type == "quorum" and _number(facts.arguments, "x-delivery-limit") in (0, 1),
        "{gives_up} a message that comes back {returns} time(s), as after a lost connection (x-delivery-limit); "
        "give it 20 or more",
    ),
    (
        lambda _, facts: _drops_when_full(facts),
        "{gives_up} its oldest messages, without a run, beyond {limit} (x-max-length); "
        'x-overflow = "reject-publish" refuses new ones instead',
    ),
)
"""(when a promise is broken, what happens instead), as they are told."""

_REMEDY = "delete it when it is empty, and preforkd makes it again"

_DELAY_PROMISES: _Promises = (
    (
        lambda plan, facts: not _comes_back(plan, facts),
        "does not give retries back to the pool's queue: its x-message-ttl, x-dead-letter-exchange or "
        f"x-dead-letter-routing-key are not preforkd's; {_REMEDY}",
    ),
    (
        lambda plan, facts: _comes_back(plan, facts) and not _keeps_confirmed_ones(facts),
        "may lose retries when the broker dies: it is no durable quorum queue that dead-letters at-least-once; "
        f"{_REMEDY}",
    ),
    (
        lambda _, facts: _drops_when_full(facts) or "x-expires" in facts.arguments,
        f"drops retries (x-max-length, x-expires); {_REMEDY}",
    ),
)
"""The same for delay queues."""
