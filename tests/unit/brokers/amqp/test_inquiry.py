"""What a queue is, found out from the refusals of declares that cannot make one: RabbitMQ's own words as data."""

from __future__ import annotations

import re
from typing import Any

import pytest

from supervisor.brokers.amqp.inquiry import Inquiry, QueueFacts
from supervisor.brokers.amqp.promises import broken_promises
from supervisor.brokers.amqp.queues import QUORUM, QueuePlan, delay_queue

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
    inquiry = Inquiry(guess)
    while (question := inquiry.question) is not None:
        inquiry.answered(*broker.refusal(question.durable, question.auto_delete, question.arguments))
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
    inquiry = Inquiry(dict(QUORUM))
    broker = Broker(CLASSIC, RICH)
    while (question := inquiry.question) is not None:
        assert "asked by preforkd" in (question.arguments.get("x-message-ttl"), question.arguments.get("x-queue-type"))
        inquiry.answered(*broker.refusal(question.durable, question.auto_delete, question.arguments))


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
    inquiry = Inquiry({})
    inquiry.answered(code, text)

    assert (inquiry.question, inquiry.facts) == (None, None)


def test_a_broker_that_never_agrees_is_not_asked_for_ever() -> None:
    inquiry = Inquiry({})
    for asked in range(100):
        if inquiry.question is None:
            break
        text = f"inequivalent arg 'x-{asked}' for queue 'q' in vhost '/': received none but current is '1'"
        inquiry.answered(406, text)
    assert inquiry.facts is None
    assert asked < 30


# ---- promises -----------------------------------------------------------------------------------------------------

PLAN = QueuePlan("q", QUORUM)

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "not durable": ({"durable": False}, "not durable"),
    "auto-delete": ({"auto_delete": True}, "auto-delete"),
    "expires": ({"arguments": {"x-expires": 90_000}}, r"1m30s \(x-expires\)"),
    "a TTL": ({"arguments": {"x-message-ttl": 500}}, "deletes what waits longer than"),
    "a TTL and a dead-letter exchange": (
        {"arguments": {"x-message-ttl": 60_000, "x-dead-letter-exchange": "dlx"}},
        "moves to exchange 'dlx' what waits longer than",
    ),
    "a length": ({"arguments": {"x-max-length": 10}}, "beyond 10 messages"),
    "a delivery limit of none": ({"arguments": {"x-delivery-limit": 0}}, r"comes back 1 time\(s\)"),
    "a size": ({"arguments": {"x-max-length-bytes": 1024}}, "beyond 1"),
    "a length with dead-lettering": (
        {"arguments": {"x-max-length": 10, "x-overflow": "reject-publish-dlx"}},
        "beyond 10 messages",
    ),
}


def facts(durable: bool = True, auto_delete: bool = False, arguments: dict[str, Any] | None = None) -> QueueFacts:
    return QueueFacts(durable, auto_delete, "quorum", arguments or {})


@pytest.mark.parametrize("case", BROKEN)
def test_a_promise_that_a_queue_breaks_is_named(case: str) -> None:
    changes, told = BROKEN[case]
    (text,) = broken_promises(PLAN, facts(**changes))
    assert re.search(told, text), text
    assert text.startswith("queue 'q' ")


@pytest.mark.parametrize(
    "arguments",
    [{}, dict(QUORUM), {"x-max-length": 10, "x-overflow": "reject-publish"}, {"x-dead-letter-exchange": "x"}],
)
def test_a_queue_that_keeps_its_messages_breaks_no_promise(arguments: dict[str, Any]) -> None:
    assert broken_promises(PLAN, facts(arguments=arguments)) == []


def test_a_delay_queue_as_we_make_it_breaks_no_promise() -> None:
    plan = delay_queue("q", 1.0)
    assert broken_promises(plan, facts(arguments=plan.arguments)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x-dead-letter-routing-key": "other"}, "does not give retries back"),
        ({"x-dead-letter-exchange": "dlx"}, "does not give retries back"),
        ({"x-message-ttl": None}, "does not give retries back"),
        ({"x-dead-letter-strategy": None}, "may lose retries"),
        ({"x-max-length": 5, "x-overflow": None}, "drops retries"),
        ({"x-expires": 1000}, "drops retries"),
    ],
)
def test_a_delay_queue_of_another_kind_is_named_with_the_remedy(change: dict[str, Any], told: str) -> None:
    plan = delay_queue("q", 1.0)
    arguments = {name: value for name, value in (plan.arguments | change).items() if value is not None}

    (text,) = broken_promises(plan, facts(arguments=arguments))
    assert told in text
    assert "delete it when it is empty" in text
