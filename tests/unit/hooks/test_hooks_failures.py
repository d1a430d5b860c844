"""Hooks that fail again and again: the log is told of the first, then at most once a minute, with what it missed."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from supervisor.hooks import loop
from supervisor.hooks.loop import EVERY_S, FailureLog


class Clock:
    """The monotonic clock of this test."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(loop, "monotonic_s", made)
    return made


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def test_the_first_failure_is_told_with_the_key_to_correct(clock: Clock, said: Any) -> None:
    FailureLog().note("on_exit", "ended with status 3", "no such host")

    assert said() == [
        "hooks.on_exit ended with status 3; the event is not reported: correct the command, or on_exit in [hooks]"
    ]


def test_a_webhook_is_not_corrected_like_a_command(clock: Clock, said: Any) -> None:
    FailureLog().note("webhook", "answered 500", "")

    assert said()[0].endswith("look at the receiver, or correct webhook in [hooks]")


def test_a_flood_is_one_line_a_minute_that_counts_the_rest(clock: Clock, said: Any) -> None:
    noted = FailureLog()
    for _ in range(5):
        noted.note("on_exit", "failed", "")
    clock.now_s += EVERY_S - 1
    noted.note("on_exit", "failed", "")
    assert len(said()) == 1

    clock.now_s += 1
    noted.note("on_exit", "failed", "")

    assert "(5 more failures since the last such line)" in said()[1]
    clock.now_s += EVERY_S
    noted.note("on_exit", "failed", "")
    assert "more failures" not in said()[2]


def test_keys_are_counted_apart(clock: Clock, said: Any) -> None:
    noted = FailureLog()
    for key in ("on_exit", "on_dead", "webhook"):
        noted.note(key, "failed", "")

    assert len(said()) == 3


def test_a_failure_after_a_success_is_news(clock: Clock, said: Any) -> None:
    noted = FailureLog()
    noted.note("on_exit", "failed", "")
    noted.heal("on_exit")
    noted.note("on_exit", "failed", "")

    assert len(said()) == 2


def test_a_hook_that_fails_now_and_then_cannot_flood_the_log(clock: Clock, said: Any) -> None:
    noted = FailureLog()
    noted.note("on_exit", "failed", "")
    for _ in range(10):
        noted.note("on_exit", "failed", "")
        noted.heal("on_exit")

    assert len(said()) == 1


def test_a_success_before_any_failure_is_no_event(clock: Clock, said: Any) -> None:
    FailureLog().heal("on_exit")

    assert said() == []
