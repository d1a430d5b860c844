"""Checks for queues on RabbitMQ, makes and binds missing ones, and finds the arguments of existing ones.

Runs in the consumer and a client's thread. A former run may have declared a queue without the right to bind it, so
bindings are made each time. A binding that exists is not changed. Findings are collected until the queues are ready,
then reported once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pika

from supervisor.brokers.amqp.errors import Trouble, explain, taken
from supervisor.brokers.amqp.inquiry import QueueInquiry
from supervisor.brokers.amqp.questions import QueryChannel, Question, Questions, Refusal, declare
from supervisor.brokers.amqp.queues import STREAM, QueueFacts, QueuePlan, as_planned, broken_promises, declared_text
from supervisor.brokers.base import Declared, Held, Unsafe
from supervisor.system.clock import monotonic_s
from supervisor.system.locks import FileLock, LockHeld
from supervisor.system.reactor import Reactor, Timer

PERMITS = 2
_AGAIN_S = 0.1
LONGEST_WAIT_S = 60.0
"""A permit's holder that hangs must not block the others."""

Done = Callable[[Trouble | None], object]


class Permit:
    """Lets only a few consumers of one daemon make queues at a time: a broker is slow for all while it makes many.

    Sixty pools that declared all their queues at once kept RabbitMQ 3.10 busy for minutes, and blocked each other. A
    permit is a lock on a file of the state directory, so it ends with its holder.
    """

    def __init__(self, reactor: Reactor, state_dir: Path | None) -> None:
        """`state_dir` None: for a program outside of the daemon, which makes few queues and needs no permit."""
        self._reactor = reactor
        self._paths = [state_dir / f"declaring.{number}.lock" for number in range(PERMITS)] if state_dir else []
        self._lock: FileLock | None = None
        self._timer: Timer | None = None

    def ask(self, then: Callable[[], object]) -> None:
        """Call `then()` once a permit is free, or after `LONGEST_WAIT_S`."""
        self._try(then, monotonic_s() + LONGEST_WAIT_S)

    def release(self) -> None:
        """Release the permit, or cancel the request."""
        if self._timer is not None:
            self._reactor.remove_timeout(self._timer)
            self._timer = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _try(self, then: Callable[[], object], until_s: float) -> None:
        self._timer = None
        if self._had() or monotonic_s() >= until_s:
            then()
        else:
            self._timer = self._reactor.call_later(_AGAIN_S, lambda: self._try(then, until_s))

    def _had(self) -> bool:
        """Whether a permit is taken, or the state directory cannot be used, which other code reports."""
        for path in self._paths:
            if self._lock is not None:
                break
            try:
                self._lock = FileLock(path)
            except LockHeld:
                continue
            except OSError:
                return True
        return self._lock is not None or not self._paths


class QueueFindings:
    """Findings about a pool's queues. `queue`: the pool's own; `tell` is called with the findings."""

    def __init__(self, queue: str, tell: Callable[[Declared | Held | Unsafe], object]) -> None:
        self.known: set[str] = set()
        """Queues that need not be examined again."""
        self.type = ""
        """The type of the pool's own queue: classic, quorum; "" while it is not known."""
        self._queue = queue
        self._tell = tell
        self._made: Declared | None = None
        self._remarks: dict[str, list[str]] = {}
        self._told: tuple[str, ...] = ()

    def declared(self, plan: QueuePlan) -> None:
        """A missing queue was made."""
        facts = as_planned(plan)
        self._remarks[plan.name] = broken_promises(plan, facts)
        if plan.name == self._queue:
            self.type = facts.type
            self._made = Declared(declared_text(plan))
        else:
            self._tell(Held(plan.name, None))

    def examined(self, plan: QueuePlan, facts: QueueFacts) -> Trouble | None:
        """The arguments of an existing queue. A stream is refused: the trouble is returned."""
        if facts.type == STREAM:
            return Trouble(f"queue {plan.name!r} is a stream, which cannot be settled message by message", True)
        if plan.name == self._queue:
            self.type = facts.type
        self._remarks[plan.name] = broken_promises(plan, facts)
        return None

    def forget(self) -> None:
        """The pool's own queue may have been deleted: examine the queue that takes its place."""
        self.known.discard(self._queue)
        self._remarks.pop(self._queue, None)
        self.type = ""

    def tell(self) -> None:
        """Tell what is new."""
        if self._made is not None:
            self._tell(self._made)
            self._made = None
        remarks = tuple(remark for queue in self._remarks.values() for remark in queue)
        if remarks != self._told:
            self._told = remarks
            self._tell(Unsafe(remarks))


class Declarer:
    """Checks and declares queues over one connection, one after the other.

    `explained`: a refusal in words for users.
    """

    def __init__(
        self,
        connection: pika.SelectConnection,
        permit: Permit,
        findings: QueueFindings,
        explained: Callable[[Trouble], Trouble],
    ) -> None:
        self.channel = QueryChannel(connection)
        """For other questions about queues, too."""
        self._permit = permit
        self._findings = findings
        self._explained = explained

    def ensure(self, plans: Sequence[QueuePlan], done: Done) -> None:
        """Carry out `plans` in order; `done(None)` at the end, or `done(trouble)` at the first failure.

        Nothing is called when the connection is lost meanwhile.
        """

        def ended(trouble: Trouble | None) -> None:
            done(trouble)
            self._permit.release()

        self.channel.ask(self._ensure(plans), ended)

    def close(self) -> None:
        """Release the permit after the end of the connection."""
        self._permit.release()

    def _ensure(self, plans: Sequence[QueuePlan]) -> Questions:
        for plan in plans:
            if (trouble := (yield from self._ensure_one(plan))) is not None:
                return trouble
        return None

    def _ensure_one(self, plan: QueuePlan) -> Questions:
        found = yield declare(plan.name, passive=True)
        if not isinstance(found, Refusal):
            if plan.alone and found.method.consumer_count:
                return taken(plan.name)
        elif found.reply_code != 404:
            return self._trouble(plan, "looked for", found)
        elif not plan.declare:
            return Trouble(
                f"queue {plan.name!r} does not exist and declare = false: create it, or let it be declared", True
            )
        else:
            yield lambda _channel, answer: self._permit.ask(lambda: answer(None))
            made = yield declare(plan.name, durable=True, arguments=plan.arguments)
            if isinstance(made, Refusal):
                return self._trouble(plan, "declared", made)
            self._findings.known.add(plan.name)
            self._findings.declared(plan)
        if plan.declare:
            for binding in plan.bindings:
                bound = yield _bind(plan.name, binding.exchange, binding.routing_key)
                if isinstance(bound, Refusal):
                    return self._trouble(plan, "bound", bound)
        return (yield from self._examine(plan))

    def _examine(self, plan: QueuePlan) -> Questions:
        """Examine each queue once: whether it has the arguments of its plan, and if not, which ones.

        A declare with the plan's arguments is harmless: should the queue have vanished since it was found, it makes
        the planned one. Where it must not be made, only such questions are asked as cannot make it.
        """
        if plan.name in self._findings.known:
            return None
        self._findings.known.add(plan.name)
        if plan.declare:
            equal = yield declare(plan.name, durable=True, arguments=plan.arguments)
            if not isinstance(equal, Refusal):
                return self._findings.examined(plan, as_planned(plan))
            if equal.reply_code != 406:  # it cannot be queried, and is used anyway
                return None
        inquiry = QueueInquiry(plan.arguments)
        while (question := inquiry.question) is not None:
            answer = yield declare(plan.name, **question)
            inquiry.answered(*((answer.reply_code, answer.reply_text) if isinstance(answer, Refusal) else (0, "")))
        return None if inquiry.facts is None else self._findings.examined(plan, inquiry.facts)

    def _trouble(self, plan: QueuePlan, how: str, error: Refusal) -> Trouble:
        """`how`: what the broker has refused, as "declared"."""
        trouble = self._explained(explain(error))
        final = trouble.fatal or error.reply_code == 406
        return Trouble(f"queue {plan.name!r} cannot be {how}: {trouble.reason}", final, trouble.code)


def _bind(queue: str, exchange: str, key: str) -> Question:
    return lambda channel, answer: channel.queue_bind(queue, exchange, key, callback=answer)
