"""What the master is told of letters: the first few of a turn by name, the others as a number."""

from __future__ import annotations

from typing import Any

from supervisor.consumer.observe.observer import NAMED, DeadLetterNews
from supervisor.consumer.settlement.unit_of_work import Say
from supervisor.logs.events import Event

FIELDS: dict[str, Any] = {
    "message_id": "m",
    "round": 1,
    "attempt": 3,
    "cause": "exception",
    "reason": "r" * 5000,
    "status": None,
    "signal": None,
    "worker": "email/0",
    "delay_s": None,
    "stack": "s",
}


def test_only_what_was_given_up_is_news() -> None:
    news = DeadLetterNews()
    news.gather([Say(Event.MESSAGE_FAILED, "", FIELDS), Say(Event.MESSAGE_RETRIED, "", FIELDS)])
    assert news.take() is None


def test_a_letter_is_told_with_its_diagnosis_and_without_its_stack() -> None:
    news = DeadLetterNews()
    news.gather([Say(Event.MESSAGE_DEAD, "", FIELDS)])
    told = news.take()
    assert told is not None and told.more == 0
    (letter,) = told.named
    assert (letter["event"], letter["message_id"], letter["attempts"]) == ("message.dead", "m", 3)
    assert len(letter["reason"]) == 1000
    assert "stack" not in letter
    assert news.take() is None, "once"


def test_a_turn_in_which_everything_fails_is_told_in_bounded_space() -> None:
    news = DeadLetterNews()
    news.gather([Say(Event.MESSAGE_PARKED, "", FIELDS)] * (NAMED + 100))
    told = news.take()
    assert told is not None and (len(told.named), told.more) == (NAMED, 100)
