"""Passwords stay hidden, also in URLs that are wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.logs.redaction import Redactor, passwords, redact, without_passwords


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://user:pw@host:5672/vhost", "amqp://user:***@host:5672/vhost"),
        ("amqps://user:p%40w@host", "amqps://user:***@host"),
        ("amqp://user:p@w@host", "amqp://user:***@host"),
        ("amqp://user:p/w@host/v", "amqp://user:***@host/v"),
        ("amqp://us@er:pw@host", "amqp://us@er:***@host"),
        ("amqp:/user:pw@host", "amqp:/user:***@host"),
        ("user:pw@host", "user:***@host"),
        ("amqp://:pw@host", "amqp://:***@host"),
        ("amqp://user:12#34@host/v", "amqp://user:***@host/v"),
        ("amqp://user:12?34@host/v", "amqp://user:***@host/v"),
        ("amqp://user:12/34@host/v", "amqp://user:***@host/v"),
        ("amqp//user:pw@host", "amqp//user:***@host"),
        ("amqp:user:pw@host", "amqp:***@host"),
        ("amqp://user:pw", "amqp://user:***"),
        ("amqp://user:12#34", "amqp://user:***"),
        ("amqp://user:123456", "amqp://user:***"),
        ("amqp://host:5672?heartbeat=5", "amqp://host:5672?heartbeat=5"),
        ("amqp://[::1]:5672/v", "amqp://[::1]:5672/v"),
        ("h.py:run", "h.py:run"),
        ("amqp://a:one@h1,amqp://b:two@h2", "amqp://a:***@h2"),
        ("amqp://host:5672/vhost", "amqp://host:5672/vhost"),
        ("amqp://user@host:5672/", "amqp://user@host:5672/"),
        ("embedded:", "embedded:"),
        ("postgresql://u:pw@h1:5432,h2/db?sslmode=require", "postgresql://u:***@h1:5432,h2/db?sslmode=require"),
        ("postgresql://u@h1:5432,h2:5432/db", "postgresql://u@h1:5432,h2:5432/db"),
        ("postgresql://h/db?user=u&password=pw&sslpassword=k", "postgresql://h/db?user=u&password=***&sslpassword=***"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_a_password_is_known_as_written_and_decoded() -> None:
    assert passwords("amqp://user:p%40w@host") == {"p%40w", "p@w"}
    assert passwords("amqp://host") == set()
    assert passwords("amqp://user:@host") == set()
    assert passwords("postgresql://h/db?password=p%40w&sslpassword=k&sslmode=require") == {"p%40w", "p@w", "k"}


def test_secrets_are_struck_out_deep_inside_values() -> None:
    redactor = Redactor()
    redactor.add("hunter2")
    value = {"hunter2": ["a hunter2", ("x", {"k": ValueError("hunter2")})], "n": 1, "none": None, "yes": True}
    assert redactor.clean(value) == {"***": ["a ***", ["x", {"k": "***"}]], "n": 1, "none": None, "yes": True}


def test_an_empty_secret_strikes_out_nothing() -> None:
    redactor = Redactor()
    redactor.add("")
    assert redactor.clean("abc") == "abc"


def test_the_longer_of_two_secrets_leaves_nothing_behind() -> None:
    redactor = Redactor()
    redactor.add("pass")
    redactor.add("password")
    assert redactor.clean("password") == "***"


@given(
    secret=st.text(min_size=4, alphabet="abc\"'\\\n é"), before=st.text(alphabet="xyz"), after=st.text(alphabet="xyz")
)
def test_no_secret_survives_plain_quoted_or_as_json(secret: str, before: str, after: str) -> None:
    redactor = Redactor()
    redactor.add(secret)
    for text in (secret, repr(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        cleaned = str(redactor.clean(before + text + after))
        assert secret not in cleaned
        assert cleaned.startswith(f"{before}***") and cleaned.endswith(f"***{after}")


@pytest.mark.parametrize(
    "value", ["amqp://u:hun%22ter@h/", "hun%22ter", 'hun"ter', 'u:hun"ter', " amqp://u:hun%22ter@h/\n"]
)
def test_a_variable_that_tells_a_password_is_left_out(value: str) -> None:
    assert without_passwords({"A": value, "B": "hunter"}, ["amqp://u:hun%22ter@h/"]) == {"B": "hunter"}


def test_a_variable_in_which_a_password_is_only_a_word_stays() -> None:
    environment = {"HOME": "/home/guest", "EDITOR": "guest-editor", "EMPTY": ""}
    assert without_passwords(environment, ["amqp://guest:guest@host", "embedded:"]) == environment


def test_without_passwords_to_hide_everything_stays() -> None:
    environment = {"A": "amqp://host/", "EMPTY": ""}
    assert without_passwords(environment, ["amqp://host/", "embedded:"]) == environment


def test_a_token_is_kept_from_user_code_where_a_variable_is_that_token() -> None:
    environment = {"TOKEN": "0123456789abcdef", "OTHER": "x0123456789abcdef", "EMPTY": ""}

    assert without_passwords(environment, [], ["", "0123456789abcdef"]) == {"OTHER": "x0123456789abcdef", "EMPTY": ""}
