"""What is told of a pool's queues at its start: each finding once, and again where it has changed."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.brokers.amqp.declarer import QueueFindings
from supervisor.brokers.amqp.queues import QueueFacts, QueuePlan, pool_queues
from supervisor.brokers.base import Declared, Held, Unsafe
from tests.support.brokers import a_pool

WORK, DEAD, *_ = pool_queues(a_pool(queue="email"))
SOUND = QueueFacts(True, False, "quorum", {})
FORGETFUL = QueueFacts(False, False, "classic", {})


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def findings(told: list[Any]) -> QueueFindings:
    return QueueFindings("email", told.append)


def test_a_stream_is_refused_for_good_and_by_name(findings: QueueFindings) -> None:
    trouble = findings.examined(WORK, QueueFacts(True, False, "stream", {}))

    assert trouble is not None
    assert trouble.fatal
    assert trouble.reason == "queue 'email' is a stream, which cannot be settled message by message"


def test_a_sound_queue_is_no_news(findings: QueueFindings, told: list[Any]) -> None:
    assert findings.examined(WORK, SOUND) is None
    findings.tell()

    assert told == []


def test_a_queue_that_loses_messages_is_told_once(findings: QueueFindings, told: list[Any]) -> None:
    assert findings.examined(WORK, FORGETFUL) is None
    findings.tell()
    findings.tell()

    (unsafe,) = told
    assert isinstance(unsafe, Unsafe)
    assert "queue 'email' is not durable" in unsafe.remarks[0]


def test_remarks_about_all_queues_are_told_together(findings: QueueFindings, told: list[Any]) -> None:
    findings.examined(WORK, FORGETFUL)
    findings.examined(DEAD, FORGETFUL)
    findings.tell()

    assert [remark.split("'")[1] for unsafe in told for remark in unsafe.remarks] == ["email", "email.dead"]


def test_a_queue_that_was_mended_is_told_as_such(findings: QueueFindings, told: list[Any]) -> None:
    findings.examined(WORK, FORGETFUL)
    findings.tell()
    findings.examined(WORK, SOUND)
    findings.tell()

    assert told[-1] == Unsafe(())


def test_a_deleted_queue_takes_its_remarks_along_and_is_examined_again(
    findings: QueueFindings, told: list[Any]
) -> None:
    findings.known |= {"email", "email.dead"}
    findings.examined(WORK, FORGETFUL)
    findings.tell()
    findings.forget()
    findings.tell()

    assert told[-1] == Unsafe(())
    assert findings.known == {"email.dead"}


def test_the_pools_queue_is_told_as_made_once_all_are_there(findings: QueueFindings, told: list[Any]) -> None:
    findings.declared(WORK)
    assert told == []
    findings.tell()
    findings.tell()

    (made,) = told
    assert isinstance(made, Declared)
    assert made.text.startswith("queue 'email' did not exist and was declared: durable, x-queue-type = 'quorum'")


def test_another_queue_of_the_pool_that_was_made_was_not_there_before(findings: QueueFindings, told: list[Any]) -> None:
    findings.declared(DEAD)

    assert told == [Held("email.dead", None)]


def test_configured_arguments_may_break_a_promise_of_a_new_queue_too(findings: QueueFindings, told: list[Any]) -> None:
    findings.declared(QueuePlan("email", {"x-max-length": 5}))
    findings.tell()

    assert [type(each) for each in told] == [Declared, Unsafe]
    assert "deletes its oldest messages" in told[1].remarks[0]
