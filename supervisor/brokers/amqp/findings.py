"""Findings about a pool's queues at its start: the queue that was made, and the arguments of existing ones.

Runs in the consumer. Findings are collected until the queues are ready, then reported once.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.brokers.amqp.errors import Trouble
from supervisor.brokers.amqp.inquiry import QueueFacts
from supervisor.brokers.amqp.promises import STREAM, as_planned, broken_promises
from supervisor.brokers.amqp.queues import QueuePlan, declared_text
from supervisor.brokers.base import Declared, Held, Unsafe


class QueueFindings:
    """The owner of a Declarer, as far as findings go. `queue`: the pool's own; `tell` is called with the findings."""

    def __init__(self, queue: str, tell: Callable[[Declared | Held | Unsafe], object]) -> None:
        self.known: set[str] = set()
        """Queues that need not be examined again."""
        self._queue = queue
        self._tell = tell
        self._made: Declared | None = None
        self._remarks: dict[str, list[str]] = {}
        self._told: tuple[str, ...] = ()

    def declared(self, plan: QueuePlan) -> None:
        """Part of DeclarerOwner: a missing queue was made."""
        self._remarks[plan.name] = broken_promises(plan, as_planned(plan))
        if plan.name == self._queue:
            self._made = Declared(declared_text(plan))
        else:
            self._tell(Held(plan.name, None))

    def examined(self, plan: QueuePlan, facts: QueueFacts) -> Trouble | None:
        """Part of DeclarerOwner: the arguments of an existing queue. A stream is refused."""
        if facts.type == STREAM:
            return Trouble(f"queue {plan.name!r} is a stream, which cannot be settled message by message", True)
        self._remarks[plan.name] = broken_promises(plan, facts)
        return None

    def forget(self) -> None:
        """The pool's own queue may have been deleted: examine the queue that takes its place."""
        self.known.discard(self._queue)
        self._remarks.pop(self._queue, None)

    def tell(self) -> None:
        """Tell what is new."""
        if self._made is not None:
            self._tell(self._made)
            self._made = None
        remarks = tuple(remark for queue in self._remarks.values() for remark in queue)
        if remarks != self._told:
            self._told = remarks
            self._tell(Unsafe(remarks))
