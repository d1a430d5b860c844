"""workers.log: one line for each message, whatever is in it."""

from __future__ import annotations

import logging

import pytest

from supervisor import Message
from workers import log


def lines(caplog: pytest.LogCaptureFixture, message: Message) -> list[str]:
    with caplog.at_level(logging.INFO, logger="preforkd.workers.log"):
        log.run(message)
    return [record.getMessage() for record in caplog.records]


def test_a_message_is_logged_with_its_id_its_size_and_its_beginning(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, Message(b"hello", id="m-1")) == ["message m-1: 5 bytes, attempt 1: hello"]


def test_a_message_without_an_id_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, Message(b"")) == ["message (without an id): 0 bytes, attempt 1: "]


def test_only_the_beginning_of_a_long_body_is_logged() -> None:
    assert log.preview(b"x" * 1000) == "x" * log.PREVIEW_BYTES + "..."


def test_a_body_never_breaks_the_line_and_never_fails() -> None:
    assert log.preview(b"one\ntwo\x00\xff\x1b[31m") == "one\\ntwo\\x00\\xff\\x1b[31m"
    assert log.preview(bytes(range(256))).isprintable()
