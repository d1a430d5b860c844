"""Facts about one run's use of an inbox: what may be published when, and which returns are not done."""

from __future__ import annotations

import pytest

from supervisor.api import Message
from supervisor.messages.inbox_run import InboxError, InboxRun
from supervisor.worker.handler_call import DONE, collected

HERE, THERE = b"h" * 16, b"t" * 16


def at(step: str, **given: object) -> Message:
    """A message whose run has come to this step of `once`."""
    message = Message(b"", id="m-1", inbox=InboxRun(**given))  # type: ignore[arg-type]
    run = message.inbox_run()
    if step == "unused":
        return message
    run.begin(HERE)
    if step in ("first", "left"):
        run.answered(first=True)
    elif step == "repeated":
        run.answered(first=False)
    if step == "left":
        run.leave(lambda: False)
    elif step == "failed":
        run.fail("OperationalError: gone")
    return message


@pytest.mark.parametrize("step", ["unused", "first"])
def test_a_publication_is_collected_before_and_inside_of_a_first_block(step: str) -> None:
    message = at(step)
    message.publish(b"x", routing_key="audit")
    assert [one.body for one in message.publications] == [b"x"]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("repeated", "what it published is sent again"),
        ("left", "inside of the `once` block"),
        ("failed", "`once` has failed"),
    ],
)
def test_a_publication_that_a_crash_would_lose_is_refused_with_the_place_for_it(step: str, words: str) -> None:
    message = at(step)
    with pytest.raises(ValueError, match=words):
        message.publish(b"x", routing_key="audit")
    assert not message.publications


@pytest.mark.parametrize("step", ["unused", "left"])
def test_a_run_that_has_left_its_block_or_used_none_is_done(step: str) -> None:
    assert collected(at(step)) == (DONE, [])


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("asking", "leave the block"),
        ("first", "leave the block"),
        ("repeated", "leave the block"),
        ("failed", "OperationalError: gone"),
    ],
)
def test_a_handler_that_returns_without_the_end_of_its_block_has_failed(step: str, words: str) -> None:
    ending, publications = collected(at(step))
    assert ending.kind == "failed" and words in ending.reason and not publications


def test_a_transaction_that_is_open_at_the_return_is_a_failed_run() -> None:
    message = at("first")
    message.inbox_run().leave(lambda: True)
    ending, _ = collected(message)
    assert ending.kind == "failed" and "commit it" in ending.reason


def test_a_driver_that_cannot_tell_whether_its_transaction_is_open_fails_the_run() -> None:
    def broken() -> bool:
        raise OSError("the connection is closed")

    message = at("first")
    message.inbox_run().leave(broken)
    ending, _ = collected(message)
    assert ending.kind == "failed" and "the connection is closed" in ending.reason


def test_a_second_block_in_a_run_is_refused() -> None:
    with pytest.raises(InboxError, match="use it once in a run"):
        at("left").inbox_run().begin(HERE)


def test_another_database_than_at_an_earlier_attempt_is_refused_before_anything_is_recorded() -> None:
    recorded: list[bytes] = []
    run = InboxRun(former=THERE, record=recorded.append)
    with pytest.raises(InboxError, match=f"{THERE.hex()}.*{HERE.hex()}"):
        run.begin(HERE)
    assert not recorded


def test_the_database_is_recorded_before_its_row_is_written() -> None:
    recorded: list[bytes] = []
    InboxRun(former=HERE, record=recorded.append).begin(HERE)
    assert recorded == [HERE]
