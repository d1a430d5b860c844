"""Finds out what a queue on RabbitMQ is: durable, its type, its arguments. Pure; other files send the questions.

Runs in the consumer and the command line. AMQP has no question for it. But a declare of a queue that exists with other
arguments is refused (406), and the refusal names the first difference with the value that is in force; so repeated
declares, each on a channel of its own, find out everything that RabbitMQ compares. None of them can make a queue: each
carries one argument that is refused for a new queue, should the queue vanish in between. Arguments of a policy are
not compared, and stay unknown (`rabbitmqctl list_queues name policy`).
https://www.rabbitmq.com/docs/queues#property-equivalence
"""

from __future__ import annotations

import re
from typing import Any

from supervisor.brokers.amqp.queues import QueueFacts

_IMPOSSIBLE = "asked by preforkd"
_ASKED_WITH = ("x-message-ttl", "x-queue-type")
"""Arguments that are asked about with `_IMPOSSIBLE`, one after the other. RabbitMQ compares in an order of its own:
what comes before one of them is known once the refusal names it. Together they are behind all that matters here."""

_NUMBERS = frozenset(
    {
        *("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-delivery-limit", "x-max-priority"),
        *("x-consumer-timeout", "x-quorum-initial-group-size", "x-max-in-memory-length", "x-max-in-memory-bytes"),
    }
)
_MOST_QUESTIONS = 24

_DIFFERENCE = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for .*received .* but current is"
    r" (?:(?P<none>none)|the value '(?P<value>.*)' of type '[^']*'|'(?P<same_type>.*)')$",
    re.DOTALL,
)


class QueueInquiry:
    """The questions about one queue. `guess`: the arguments that it probably has, which saves questions."""

    def __init__(self, guess: dict[str, Any]) -> None:
        self.facts: QueueFacts | None = None
        """The findings, once `question` is None; None where the queue cannot be asked about."""
        self._durable, self._auto_delete = True, False
        self._known = dict(guess)
        self._asked = 0
        self._stage = 0

    @property
    def question(self) -> dict[str, Any] | None:
        """The arguments of the next queue.declare, by pika's names; None: nothing is left to ask."""
        if self._stage >= len(_ASKED_WITH):
            return None
        impossible = {_ASKED_WITH[self._stage]: _IMPOSSIBLE}
        arguments = self._known | impossible
        return {"durable": self._durable, "auto_delete": self._auto_delete, "arguments": arguments}

    def answered(self, code: int, text: str) -> None:
        """The declare was refused with this reply `code` and text; 0: it succeeded."""
        self._asked += 1
        found = _DIFFERENCE.search(text) if code == 406 else None
        if code and (found is None or self._asked > _MOST_QUESTIONS):
            self._stage = len(_ASKED_WITH)  # gone, locked, or no right to declare it
            return
        if found is None:
            self._next()  # this type of queue has no such argument
        else:
            self._learn(found)

    def _learn(self, found: re.Match[str]) -> None:
        name, value = found["name"], found["value"] if found["value"] is not None else found["same_type"]
        if name == "durable":
            self._durable = value == "true"
        elif name == "auto_delete":
            self._auto_delete = value == "true"
        else:
            self._known.pop(name, None)
            if found["none"] is None:
                self._known[name] = int(value) if name in _NUMBERS and value.lstrip("-").isdecimal() else value
        if name == _ASKED_WITH[self._stage]:
            self._next()

    def _next(self) -> None:
        self._stage += 1
        if self._stage == len(_ASKED_WITH):
            kind = str(self._known.get("x-queue-type", "classic"))
            self.facts = QueueFacts(self._durable, self._auto_delete, kind, _of_type(kind, self._known))


def _of_type(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Without guesses that were never compared, since this type of queue does not have them."""
    if kind == "quorum":
        return arguments
    return {
        name: value for name, value in arguments.items() if name not in ("x-delivery-limit", "x-dead-letter-strategy")
    }
