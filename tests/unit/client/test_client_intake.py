"""The bounds of a client: what it takes, what it refuses at once, and for whom it makes room."""

from __future__ import annotations

import threading

import pytest

from supervisor.client.backlog import Item
from supervisor.client.errors import BufferFull, ClientClosed, LoginRefused
from supervisor.client.intake import Intake
from supervisor.messages.message import Properties, Publication
from tests.support.waiting import eventually


def an_item(size_bytes: int = 1) -> Item:
    return Item(Publication("", "orders", Properties(message_id="m"), b"x" * size_bytes), 0.0, None, waited_for=True)


def an_intake(max_messages: int = 2, max_bytes: int = 10**6) -> Intake:
    return Intake(max_messages, max_bytes, lambda: None)


def test_the_bound_of_messages_refuses_at_once_and_says_why() -> None:
    intake = an_intake()
    intake.tell("amqp://broker:5672/ is away: nothing listens there")
    intake.put(an_item(), 0.0)
    intake.put(an_item(), 0.0)
    with pytest.raises(BufferFull, match=r"max_messages = 2.*broker:5672/ is away.*it is not at the broker") as refused:
        intake.put(an_item(), 0.0)

    assert not refused.value.maybe_published
    assert refused.value.message_id == "m"
    assert len(intake.take()) == 2


def test_the_bound_of_bytes_counts_and_one_message_is_always_taken() -> None:
    intake = an_intake(max_messages=100, max_bytes=50_000)
    large = an_item(60_000)
    intake.put(large, 0.0)
    with pytest.raises(BufferFull, match=r"max_bytes = 48\.8KiB"):
        intake.put(an_item(), 0.0)
    intake.release(large)
    intake.put(an_item(), 0.0)


def test_a_caller_that_waits_for_room_gets_it_with_the_next_confirm() -> None:
    intake = an_intake(max_messages=1)
    first = an_item()
    intake.put(first, 0.0)
    took = threading.Thread(target=intake.put, args=(an_item(), 20.0))
    took.start()
    intake.take()
    intake.release(first)
    took.join(20)

    assert len(intake.take()) == 1


def test_a_caller_that_waits_for_room_is_refused_when_its_wait_is_over() -> None:
    intake = an_intake(max_messages=1)
    intake.put(an_item(), 0.0)
    with pytest.raises(BufferFull):
        intake.put(an_item(), 0.01)


def test_while_the_broker_refuses_the_client_nothing_is_taken() -> None:
    intake = an_intake()
    intake.tell("403", refusal="the broker refuses the login")
    with pytest.raises(LoginRefused, match="refuses the login"):
        intake.put(an_item(), 0.0)
    intake.tell("")
    assert intake.put(an_item(), 0.0)


def test_a_closed_intake_takes_nothing_and_wakes_those_that_wait() -> None:
    intake = an_intake(max_messages=1)
    intake.put(an_item(), 0.0)
    errors: list[BaseException] = []

    def put() -> None:
        try:
            intake.put(an_item(), 20.0)
        except ClientClosed as error:
            errors.append(error)

    waiting = threading.Thread(target=put)
    waiting.start()
    intake.close()
    waiting.join(20)

    eventually(lambda: errors, "the waiting caller is told")
    assert len(intake.take()) == 1, "what was taken stays"


def test_an_intake_whose_thread_has_ended_says_so_and_wakes_nothing() -> None:
    woken: list[int] = []
    intake = Intake(2, 10**6, lambda: woken.append(1))
    item = an_item()
    intake.put(item, 0.0)

    assert intake.end(lambda: woken.append(2)) == [item]
    assert not intake.put(an_item(), 0.0)
    intake.close()
    assert woken == [1, 2]
