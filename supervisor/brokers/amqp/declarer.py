"""Checks for queues on RabbitMQ, makes and binds missing ones, and finds the arguments of existing ones.

Runs in the consumer. All this happens on separate channels: a passive declare of a missing queue closes its channel
(404), and so does every refusal. A former run may have declared a queue without the right to bind it, so bindings are
made each time. A binding that exists is not changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol

import pika
import pika.channel
import pika.exceptions
import pika.frame

from supervisor.brokers.amqp.errors import Trouble, explain
from supervisor.brokers.amqp.inquiry import Inquiry, QueueFacts
from supervisor.brokers.amqp.promises import as_planned
from supervisor.brokers.amqp.queues import QueuePlan
from supervisor.brokers.permits import Permit

Done = Callable[[Trouble | None], object]


class DeclarerOwner(Protocol):
    """Receives the findings. `known`: names of queues that need not be examined (again); others are added."""

    known: set[str]

    def declared(self, plan: QueuePlan) -> None:
        """The missing queue was made."""

    def examined(self, plan: QueuePlan, facts: QueueFacts) -> Trouble | None:
        """The arguments of an existing queue; a returned trouble refuses it."""


class _Step(Enum):
    """The present action for the first job, as error texts name it."""

    LOOK = "looked for"
    DECLARE = "declared"
    BIND = "bound"
    COMPARE = "compared"
    INQUIRE = "asked about"


class Declarer:
    """Checks and declares queues over one connection, one after the other.

    `explained`: a refusal in words for users.
    """

    def __init__(
        self,
        connection: pika.SelectConnection,
        permit: Permit,
        owner: DeclarerOwner,
        explained: Callable[[Trouble], Trouble] = lambda trouble: trouble,
    ) -> None:
        self._connection = connection
        self._permit = permit
        self._owner = owner
        self._known = owner.known
        self._explained = explained
        self._channel: pika.channel.Channel | None = None
        self._jobs: deque[tuple[QueuePlan, Done]] = deque()
        self._step = _Step.LOOK
        self._inquiry = Inquiry({})

    def ensure(self, plans: list[QueuePlan], done: Done) -> None:
        """Carry out `plans` in order; `done(None)` at the end, or `done(trouble)` at the first failure.

        Nothing is called when the connection is lost meanwhile.
        """
        if not plans:
            done(None)
            return
        first, rest = plans[0], plans[1:]
        self._jobs.append((first, lambda trouble: done(trouble) if trouble else self.ensure(rest, done)))
        if len(self._jobs) == 1:
            self._take(_Step.LOOK)

    def close(self) -> None:
        """Release the permit after the end of the connection."""
        self._permit.release()

    @property
    def _plan(self) -> QueuePlan:
        return self._jobs[0][0]

    def _take(self, step: _Step) -> None:
        """Take a step, on an open channel."""
        self._step = step
        if self._channel is not None and self._channel.is_open:
            self._act(self._channel)
        else:
            self._connection.channel(on_open_callback=self._on_open)

    def _on_open(self, channel: pika.channel.Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_closed)
        self._act(channel)

    def _act(self, channel: pika.channel.Channel) -> None:
        plan = self._plan
        if self._step is _Step.LOOK:
            channel.queue_declare(plan.name, passive=True, callback=self._on_found)
        elif self._step is _Step.DECLARE:
            channel.queue_declare(plan.name, durable=True, arguments=plan.arguments, callback=self._on_declared)
        elif self._step is _Step.BIND:
            self._bind(channel, 0)
        elif self._step is _Step.COMPARE:
            channel.queue_declare(plan.name, durable=True, arguments=plan.arguments, callback=self._on_equal)
        else:
            self._ask(channel)

    # ---- steps ----------------------------------------------------------------------------------------------------

    def _on_found(self, ok: pika.frame.Method) -> None:
        if self._plan.alone and ok.method.consumer_count:
            self._finish(Trouble(f"queue {self._plan.name!r} has a consumer already, and exclusive = true"))
        elif self._plan.declare and self._plan.bindings:
            self._take(_Step.BIND)
        else:
            self._examine()

    def _on_declared(self, _ok: pika.frame.Method) -> None:
        self._known.add(self._plan.name)
        self._owner.declared(self._plan)
        self._take(_Step.BIND)

    def _bind(self, channel: pika.channel.Channel, bound: int) -> None:
        bindings = self._plan.bindings
        if bound == len(bindings):
            self._examine()
            return
        exchange, key = bindings[bound].exchange, bindings[bound].routing_key
        channel.queue_bind(self._plan.name, exchange, key, callback=lambda _ok: self._bind(channel, bound + 1))

    def _examine(self) -> None:
        """Examine each queue once: whether it has the arguments of its plan, and if not, which ones.

        A declare with our own arguments is harmless: should the queue have vanished since it was found, it makes the
        one that we want. Where we must not make it, only such questions are asked as cannot.
        """
        if self._plan.name in self._known:
            self._finish()
            return
        self._known.add(self._plan.name)
        self._inquiry = Inquiry(self._plan.arguments)
        self._take(_Step.COMPARE if self._plan.declare else _Step.INQUIRE)

    def _on_equal(self, _ok: pika.frame.Method) -> None:
        self._finish(self._owner.examined(self._plan, as_planned(self._plan)))

    def _ask(self, channel: pika.channel.Channel) -> None:
        question = self._inquiry.question
        if question is None:
            facts = self._inquiry.facts
            self._finish(None if facts is None else self._owner.examined(self._plan, facts))
            return
        channel.queue_declare(
            self._plan.name,
            durable=question.durable,
            auto_delete=question.auto_delete,
            arguments=question.arguments,
            callback=lambda _ok: self._answered(0, ""),
        )

    def _answered(self, code: int, text: str) -> None:
        self._inquiry.answered(code, text)
        self._take(_Step.INQUIRE)

    # ---- ends -----------------------------------------------------------------------------------------------------

    def _on_closed(self, _channel: pika.channel.Channel, error: BaseException) -> None:
        self._channel = None
        if not isinstance(error, pika.exceptions.ChannelClosedByBroker) or not self._jobs:
            return
        if self._step is _Step.LOOK and error.reply_code == 404 and self._plan.declare:
            self._permit.ask(lambda: self._take(_Step.DECLARE))
        elif self._step is _Step.COMPARE:
            self._compared(error.reply_code)
        elif self._step is _Step.INQUIRE:
            self._answered(error.reply_code, error.reply_text)
        else:
            self._finish(self._trouble(error))

    def _compared(self, code: int) -> None:
        """The queue has other arguments than its plan; or they cannot be queried, and it is used anyway."""
        if code == 406:
            self._take(_Step.INQUIRE)
        else:
            self._finish()

    def _trouble(self, error: pika.exceptions.ChannelClosedByBroker) -> Trouble:
        name = self._plan.name
        if error.reply_code == 404 and self._step is _Step.LOOK:
            return Trouble(f"queue {name!r} does not exist and declare = false: create it, or let it be declared", True)
        trouble = self._explained(explain(error))
        final = trouble.fatal or error.reply_code == 406
        return Trouble(f"queue {name!r} cannot be {self._step.value}: {trouble.reason}", final, trouble.code)

    def _finish(self, trouble: Trouble | None = None) -> None:
        _plan, done = self._jobs.popleft()
        if self._jobs:
            self._take(_Step.LOOK)
        done(trouble)
        if not self._jobs:
            self._permit.release()
