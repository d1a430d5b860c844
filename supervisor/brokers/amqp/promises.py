"""Which of preforkd's promises an existing queue breaks: a table. Pure.

Runs in the consumer and the command line. https://www.rabbitmq.com/docs/queues#optional-arguments
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.brokers.amqp.inquiry import QueueFacts
from supervisor.brokers.amqp.queues import QueuePlan
from supervisor.quantities import show_bytes, show_seconds

STREAM = "stream"


def broken_promises(plan: QueuePlan, facts: QueueFacts) -> list[str]:
    """Risks to messages in a queue that preforkd did not make: a sentence each, with the remedy."""
    if plan.comes_back_to:
        found = [text(facts.arguments) for broken, text in _DELAY_PROMISES if broken(plan, facts)]
    else:
        found = [text(facts.arguments) for broken, text in _PROMISES if broken(facts)]
    return [f"queue {plan.name!r} {text}" for text in found]


def as_planned(plan: QueuePlan) -> QueueFacts:
    """A queue as its plan makes it: `queue_arguments` may break promises, too."""
    return QueueFacts(True, False, str(plan.arguments.get("x-queue-type", "classic")), plan.arguments)


def _number(arguments: dict[str, Any], name: str) -> int | None:
    """An argument that counts; anything else in its place is the broker's to refuse."""
    value = arguments.get(name)
    return value if type(value) is int else None


def _drops_when_full(facts: QueueFacts) -> bool:
    limits = [_number(facts.arguments, name) for name in ("x-max-length", "x-max-length-bytes")]
    return limits != [None, None] and facts.arguments.get("x-overflow") != "reject-publish"


def _where(arguments: dict[str, Any]) -> str:
    """The fate of messages that the queue gives up."""
    exchange = arguments.get("x-dead-letter-exchange")
    return "deletes" if exchange is None else f"moves to exchange {exchange!r}"


def _limit(arguments: dict[str, Any]) -> str:
    length, size = _number(arguments, "x-max-length"), _number(arguments, "x-max-length-bytes")
    return f"{length} messages" if length is not None else show_bytes(size or 0)


_PROMISES: tuple[tuple[Callable[[QueueFacts], object], Callable[[dict[str, Any]], str]], ...] = (
    (
        lambda facts: not facts.durable,
        lambda _: "is not durable: it and its messages end with the broker; declare a durable one, best a quorum queue",
    ),
    (
        lambda facts: facts.auto_delete,
        lambda _: (
            "is auto-delete: it is deleted with its messages as soon as it has no consumer, at each restart and each "
            "lost connection; declare one that is not"
        ),
    ),
    (
        lambda facts: _number(facts.arguments, "x-expires") is not None,
        lambda arguments: (
            "is deleted with its messages when it has no consumer for "
            f"{show_seconds(arguments['x-expires'] / 1000)} (x-expires); declare one without it"
        ),
    ),
    (
        lambda facts: _number(facts.arguments, "x-message-ttl") is not None,
        lambda arguments: (
            f"{_where(arguments)} what waits longer than "
            f"{show_seconds(arguments['x-message-ttl'] / 1000)} (x-message-ttl), without a run"
        ),
    ),
    (
        lambda facts: facts.type == "quorum" and _number(facts.arguments, "x-delivery-limit") in (0, 1),
        lambda arguments: (
            f"{_where(arguments)} a message that comes back {arguments['x-delivery-limit'] + 1} time(s), as after a"
            " lost connection (x-delivery-limit); give it 20 or more"
        ),
    ),
    (
        _drops_when_full,
        lambda arguments: (
            f"{_where(arguments)} its oldest messages, without a run, beyond {_limit(arguments)} "
            '(x-max-length); x-overflow = "reject-publish" refuses new ones instead'
        ),
    ),
)
"""(when a promise is broken, what happens instead), as they are told."""


def _comes_back(plan: QueuePlan, facts: QueueFacts) -> bool:
    exchange, key = (facts.arguments.get(f"x-dead-letter-{part}") for part in ("exchange", "routing-key"))
    return exchange == "" and key == plan.comes_back_to and "x-message-ttl" in facts.arguments


def _keeps_confirmed_ones(facts: QueueFacts) -> bool:
    at_least_once = facts.arguments.get("x-dead-letter-strategy") == "at-least-once"
    return facts.durable and not facts.auto_delete and facts.type == "quorum" and at_least_once


_REMEDY = "delete it when it is empty, and preforkd makes it again"

_DELAY_PROMISES: tuple[tuple[Callable[[QueuePlan, QueueFacts], object], Callable[[dict[str, Any]], str]], ...] = (
    (
        lambda plan, facts: not _comes_back(plan, facts),
        lambda _: (
            "does not give retries back to the pool's queue: its x-message-ttl, x-dead-letter-exchange or "
            f"x-dead-letter-routing-key are not preforkd's; {_REMEDY}"
        ),
    ),
    (
        lambda plan, facts: _comes_back(plan, facts) and not _keeps_confirmed_ones(facts),
        lambda _: (
            "may lose retries when the broker dies: it is no durable quorum queue that dead-letters at-least-once; "
            f"{_REMEDY}"
        ),
    ),
    (
        lambda plan, facts: _drops_when_full(facts) or "x-expires" in facts.arguments,
        lambda _: f"drops retries (x-max-length, x-expires); {_REMEDY}",
    ),
)
"""The same for delay queues: (when it is broken, what happens instead)."""
