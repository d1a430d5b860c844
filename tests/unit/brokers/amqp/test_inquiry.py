"""What a queue is, found out from the refusals of declares that cannot make one: RabbitMQ's own words as data."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.brokers.amqp.inquiry import QueueInquiry
from supervisor.brokers.amqp.queues import QUORUM, QueueFacts

CLASSIC = ("x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-max-length", "x-overflow", "x-queue-type")
QUORUM_ORDER = (
    *("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-expires", "x-max-length"),
    *("x-overflow", "x-queue-type", "x-delivery-limit", "x-message-ttl"),
)


class Broker:
    """A queue, and RabbitMQ's order of comparing. `plain`: 3.10 says nothing of the type of a classic queue."""

    def __init__(
        self, order: tuple[str, ...], arguments: dict[str, Any], durable: bool = True, auto_delete: bool = False
    ) -> None:
        self.order, self.arguments, self.durable, self.auto_delete = order, arguments, durable, auto_delete
        self.asked = 0

    def refusal(self, durable: bool, auto_delete: bool, arguments: dict[str, Any]) -> tuple[int, str]:
        """The code and text of its refusal."""
        self.asked += 1
        there = "for queue 'q' in vhost '/':"
        for name, given, own in (("durable", durable, self.durable), ("auto_delete", auto_delete, self.auto_delete)):
            if given != own:
                flags = f"received '{str(given).lower()}' but current is '{str(own).lower()}'"
                return 406, f"PRECONDITION_FAILED - inequivalent arg '{name}' {there} {flags}"
        for name in self.order:
            if (given := arguments.get(name)) != (own := self.arguments.get(name)):
                return 406, f"PRECONDITION_FAILED - inequivalent arg '{name}' {there} {_difference(given, own)}"
        return 0, ""


def _difference(given: Any, own: Any) -> str:
    if own is None:
        return f"received the value '{given}' of type 'longstr' but current is none"
    if given is None:
        return f"received none but current is the value '{own}' of type 'longstr'"
    return f"received '{given}' but current is '{own}'"


def ask(broker: Broker, guess: dict[str, Any]) -> QueueFacts | None:
    """All questions, put to the broker."""
    inquiry = QueueInquiry(guess)
    while (question := inquiry.question) is not None:
        inquiry.answered(*broker.refusal(**question))
    return inquiry.facts


RICH = {"x-expires": 90_000, "x-message-ttl": 60_000, "x-dead-letter-exchange": "it's", "x-max-length": 5}

QUEUES: dict[str, tuple[Broker, QueueFacts]] = {
    "a quorum queue as we make it": (Broker(QUORUM_ORDER, QUORUM), QueueFacts(True, False, "quorum", QUORUM)),
    "a classic queue": (Broker(CLASSIC, {}), QueueFacts(True, False, "classic", {})),
    "a classic queue that says so": (
        Broker(CLASSIC, {"x-queue-type": "classic"}),
        QueueFacts(True, False, "classic", {"x-queue-type": "classic"}),
    ),
    "a classic queue with everything": (
        Broker(CLASSIC, RICH, durable=False, auto_delete=True),
        QueueFacts(False, True, "classic", RICH),
    ),
    "a quorum queue with limits": (
        Broker(QUORUM_ORDER, {**QUORUM, "x-delivery-limit": 3, "x-max-length": 7, "x-overflow": "reject-publish"}),
        QueueFacts(
            True, False, "quorum", {**QUORUM, "x-delivery-limit": 3, "x-max-length": 7, "x-overflow": "reject-publish"}
        ),
    ),
    "a stream": (
        Broker(("x-max-length-bytes", "x-queue-type"), {"x-queue-type": "stream"}),
        QueueFacts(True, False, "stream", {"x-queue-type": "stream"}),
    ),
}


@pytest.mark.parametrize("guess", [{}, dict(QUORUM)], ids=["from nothing", "from our own kind"])
@pytest.mark.parametrize("case", QUEUES)
def test_everything_that_rabbitmq_compares_is_found_out(case: str, guess: dict[str, Any]) -> None:
    broker, facts = QUEUES[case]

    found = ask(broker, guess)

    assert found is not None
    assert (found.durable, found.auto_delete, found.type) == (facts.durable, facts.auto_delete, facts.type)
    assert {name: found.arguments.get(name) for name in broker.order} == {
        name: facts.arguments.get(name) for name in broker.order
    }


def test_every_question_is_one_that_cannot_make_a_queue() -> None:
    inquiry = QueueInquiry(dict(QUORUM))
    broker = Broker(CLASSIC, RICH)
    while (question := inquiry.question) is not None:
        arguments = question["arguments"]
        assert "asked by preforkd" in (arguments.get("x-message-ttl"), arguments.get("x-queue-type"))
        inquiry.answered(*broker.refusal(**question))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'"),
        (405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'"),
        (406, "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '/': expected integer"),
        (541, "INTERNAL_ERROR"),
    ],
)
def test_a_queue_that_cannot_be_asked_about_stays_unknown(code: int, text: str) -> None:
    inquiry = QueueInquiry({})
    inquiry.answered(code, text)

    assert (inquiry.question, inquiry.facts) == (None, None)


def test_a_broker_that_never_agrees_is_not_asked_for_ever() -> None:
    inquiry = QueueInquiry({})
    for asked in range(100):
        if inquiry.question is None:
            break
        text = f"inequivalent arg 'x-{asked}' for queue 'q' in vhost '/': received none but current is '1'"
        inquiry.answered(406, text)
    assert inquiry.facts is None
    assert asked < 30
