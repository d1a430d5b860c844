"""Questions of `check` to RabbitMQ about a pool: missing rights, and promises that its queues break. It blocks.

Runs in the command line only. The questions are real methods that change nothing: RabbitMQ looks at rights first and
at arguments after that, so a method with an impossible argument is refused for the one or the other.
https://www.rabbitmq.com/docs/access-control#authorisation
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

from supervisor.brokers.admin import PoolReview
from supervisor.brokers.amqp.errors import ACCESS_REFUSED, permissions_command
from supervisor.brokers.amqp.inquiry import QueueInquiry
from supervisor.brokers.amqp.queues import STREAM, QueueFacts, QueuePlan, as_planned, broken_promises, pool_queues
from supervisor.config.schema import PoolConfig

_IMPOSSIBLE = "asked by preforkd"

Act = Callable[[BlockingChannel], object]


class Reviewer:
    """Questions over one connection. `pools`: all that will use its account, for the command that gives rights."""

    def __init__(
        self, connection: pika.BlockingConnection, account: pika.ConnectionParameters, pools: Sequence[PoolConfig]
    ) -> None:
        self._connection = connection
        self._command = permissions_command(account, pools)
        self._errors: list[str] = []
        self._remarks: list[str] = []

    def review(self, pool: PoolConfig) -> PoolReview:
        """All there is to say about the queues of one pool."""
        self._errors, self._remarks = [], []
        for plan in pool_queues(pool):
            self._look_at(plan)
        self._may(f"consume from queue {pool.queue!r}", _consume(pool.queue))
        self._may("publish to the default exchange, as retries and dead letters are", _publish)
        if pool.declare:
            for binding in pool.bindings:
                self._may_bind(pool.queue, binding.exchange)
        return PoolReview(self._errors, self._remarks)

    def _look_at(self, plan: QueuePlan) -> None:
        code, text = self._refusal(_declared(plan.name, passive=True))
        if code == 404:
            if plan.declare:
                self._may(f"declare queue {plan.name!r}", _impossible(plan))
                self._remarks += broken_promises(plan, as_planned(plan))
            return
        if code:
            self._errors.append(f"queue {plan.name!r} cannot be looked at (the broker says: {text})")
            return
        facts = self._facts(plan)
        if facts is not None and facts.type == STREAM:
            self._errors.append(f"queue {plan.name!r} is a stream, which cannot be settled message by message")
        elif facts is not None:
            self._remarks += broken_promises(plan, facts)

    def _may(self, what: str, act: Act) -> None:
        code, text = self._refusal(act)
        if code == ACCESS_REFUSED:
            self._errors.append(
                f"the user may not {what} (the broker says: {text}); give the right with: {self._command}"
            )

    def _may_bind(self, queue: str, exchange: str) -> None:
        code, _text = self._refusal(lambda channel: channel.exchange_declare(exchange, passive=True))
        if code == 404:
            self._errors.append(f"exchange {exchange!r} of `bindings` does not exist: declare it first")
        else:
            self._may(f"bind queue {queue!r} to exchange {exchange!r}", _unbind_nothing(queue, exchange))

    def _facts(self, plan: QueuePlan) -> QueueFacts | None:
        inquiry = QueueInquiry(plan.arguments)
        while (question := inquiry.question) is not None:
            inquiry.answered(*self._refusal(_declared(plan.name, **question)))
        return inquiry.facts

    def _refusal(self, act: Act) -> tuple[int, str]:
        """The code and text with which the broker closes a channel because of `act`; 0 where it does not."""
        channel = self._connection.channel()
        try:
            act(channel)
            channel.close()
        except pika.exceptions.ChannelClosedByBroker as error:
            return error.reply_code, error.reply_text
        return 0, ""


def _declared(queue: str, **arguments: Any) -> Act:
    return lambda channel: channel.queue_declare(queue, **arguments)


def _impossible(plan: QueuePlan) -> Act:
    """As it would be declared, but for one argument that no new queue may have."""
    return _declared(plan.name, durable=True, arguments=plan.arguments | {"x-message-ttl": _IMPOSSIBLE})


def _consume(queue: str) -> Act:
    return lambda channel: channel.basic_consume(queue, lambda *_: None, arguments={"x-priority": _IMPOSSIBLE})


def _unbind_nothing(queue: str, exchange: str) -> Act:
    """Needs the rights that a binding needs, and takes away one that is not there."""
    return lambda channel: channel.queue_unbind(queue, exchange, f"preforkd.asks.{uuid4()}")


def _publish(channel: BlockingChannel) -> None:
    """To a queue that cannot exist: an allowed publication is returned."""
    channel.confirm_delivery()
    with suppress(pika.exceptions.UnroutableError):
        channel.basic_publish("", f"preforkd.asks.{uuid4()}", b"", mandatory=True)
