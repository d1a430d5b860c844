"""Which queues a pool needs on RabbitMQ, and how they come about: looked for first, declared only where missing.

Runs in the consumer and the command line. Arguments of queues that exist are never compared, so that an operator may
have made them otherwise. A passive declare that finds nothing closes its channel (404), hence the channel of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pika
import pika.channel
import pika.exceptions
import pika.frame

from supervisor.brokers.amqp_errors import Trouble, explain
from supervisor.brokers.names import configured_delays_s, dead_queue, delay_step_s, parked_queue, retry_queue
from supervisor.config.schema import Binding, PoolConfig

NO_DELIVERY_LIMIT = 1_000_000
"""RabbitMQ 4 drops a message after 20 returns by default; -1 does so at the first one on 3.10. We count attempts."""

QUORUM: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": NO_DELIVERY_LIMIT}


class QueuePlan(msgspec.Struct, frozen=True):
    """A queue that must be there, and how to make it.

    `declare` False: only look for it. `alone`: nobody may consume from it yet; quorum queues let exclusive consumers
    share (3.10), so the broker's own refusal is not enough.
    """

    name: str
    arguments: dict[str, Any]
    bindings: tuple[Binding, ...] = ()
    declare: bool = True
    alone: bool = False


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
    )


def pool_queues(pool: PoolConfig) -> list[QueuePlan]:
    """All that must be there before a pool consumes, so that missing rights show at the start."""
    own = [QueuePlan(dead_queue(pool.queue), QUORUM), QueuePlan(parked_queue(pool.queue), QUORUM)]
    return [work_queue(pool), *own, *(delay_queue(pool.queue, delay_s) for delay_s in configured_delays_s(pool))]


Done = Callable[[Trouble | None], object]


class Declarer:
    """Looks for and declares queues over one connection, one after the other, on channels of its own."""

    def __init__(self, connection: pika.SelectConnection) -> None:
        self._connection = connection
        self._channel: pika.channel.Channel | None = None
        self._jobs: deque[tuple[QueuePlan, Done]] = deque()
        self._missing = False

    def ensure(self, plans: list[QueuePlan], done: Done) -> None:
        """See to `plans` in order; `done(None)` at the end, or `done(trouble)` at the first that fails.

        Nothing is called when the connection is lost meanwhile.
        """
        if not plans:
            done(None)
            return
        first, rest = plans[0], plans[1:]
        self._jobs.append((first, lambda trouble: done(trouble) if trouble else self.ensure(rest, done)))
        if len(self._jobs) == 1:
            self._look()

    def _look(self) -> None:
        if self._channel is not None and self._channel.is_open:
            self._declare(self._channel)
        else:
            self._connection.channel(on_open_callback=self._on_open)

    def _on_open(self, channel: pika.channel.Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_closed)
        self._declare(channel)

    def _declare(self, channel: pika.channel.Channel) -> None:
        plan, _done = self._jobs[0]
        if self._missing:
            channel.queue_declare(plan.name, durable=True, arguments=plan.arguments, callback=self._bind)
        else:
            channel.queue_declare(plan.name, passive=True, callback=self._on_found)

    def _on_found(self, ok: pika.frame.Method) -> None:
        plan, _done = self._jobs[0]
        if plan.alone and ok.method.consumer_count:
            self._finish(Trouble(f"queue {plan.name!r} has a consumer already, and exclusive = true"))
        else:
            self._finish(None)

    def _bind(self, _ok: pika.frame.Method | None, bound: int = 0) -> None:
        plan, _done = self._jobs[0]
        if bound == len(plan.bindings):
            self._finish(None)
            return
        binding = plan.bindings[bound]
        channel = self._channel
        assert channel is not None
        channel.queue_bind(
            plan.name, binding.exchange, binding.routing_key, callback=lambda ok: self._bind(ok, bound + 1)
        )

    def _on_closed(self, _channel: pika.channel.Channel, error: BaseException) -> None:
        self._channel = None
        if not isinstance(error, pika.exceptions.ChannelClosedByBroker) or not self._jobs:
            return
        plan, _done = self._jobs[0]
        if error.reply_code == 404 and not self._missing and plan.declare:
            self._missing = True
            self._look()
            return
        self._finish(self._trouble(plan, error))

    def _trouble(self, plan: QueuePlan, error: pika.exceptions.ChannelClosedByBroker) -> Trouble:
        if error.reply_code == 404 and not self._missing:
            return Trouble(
                f"queue {plan.name!r} does not exist and declare = false: create it, or let it be declared", True
            )
        trouble = explain(error)
        verb = "declared" if self._missing else "looked for"
        return Trouble(
            f"queue {plan.name!r} cannot be {verb}: {trouble.reason}", trouble.fatal or error.reply_code == 406
        )

    def _finish(self, trouble: Trouble | None) -> None:
        self._missing = False
        _plan, done = self._jobs.popleft()
        if self._jobs:
            self._look()
        done(trouble)
