"""What is run for an event: no shell, no secret in an argument, nothing from a message that could become a command."""

from __future__ import annotations

import json

import pytest

from supervisor.config.schema import HooksConfig
from supervisor.hooks.job import WEBHOOK, notifications

URL = "https://hooks.example.com/geheim?token=abc"
FACTS = {"event": "worker.exited", "pool": "email", "cause": "crash", "status": None, "core_dumped": True, "pid": 7}


def test_each_hook_has_its_command_and_the_webhook_hears_of_all() -> None:
    config = HooksConfig(on_exit="a", on_hold="b", on_dead="c", webhook=URL)
    for hook, word in (("exit", "a"), ("hold", "b"), ("dead", "c")):
        keys = [(notification.key, notification.command[0]) for notification in notifications(config, hook, FACTS)]
        assert keys[0] == (f"on_{hook}", word)
        assert keys[1][0] == WEBHOOK


def test_a_hook_without_a_command_runs_nothing() -> None:
    assert notifications(HooksConfig(on_dead="c"), "exit", FACTS) == []


def test_a_command_is_split_into_words_and_no_shell_sees_it() -> None:
    (notification,) = notifications(HooksConfig(on_exit="notify --to 'the ops' $HOME"), "exit", FACTS)
    assert notification.command == ["notify", "--to", "the ops", "$HOME"]


def test_a_command_gets_the_object_and_its_plain_facts() -> None:
    facts = FACTS | {"stack": "a\nb", "message_id": "x\0y", "reason": "é" * 5000, "counts": {"a": 1}}
    (notification,) = notifications(HooksConfig(on_exit="x"), "exit", facts)
    assert json.loads(notification.payload) == {"hook": "exit", **facts}
    variables = notification.variables
    assert (variables["PREFORKD_CAUSE"], variables["PREFORKD_STATUS"], variables["PREFORKD_PID"]) == ("crash", "", "7")
    assert (variables["PREFORKD_MESSAGE_ID"], variables["PREFORKD_CORE_DUMPED"]) == ("xy", "true")
    assert len(variables["PREFORKD_REASON"]) == 1000
    assert {"PREFORKD_STACK", "PREFORKD_COUNTS"}.isdisjoint(variables)


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\x1b[2J"])
def test_no_text_of_a_message_breaks_it(text: str) -> None:
    config = HooksConfig(on_exit="x", webhook=URL)
    command, post = notifications(config, "exit", FACTS | {"message_id": text})
    assert json.loads(command.payload)["event"] == json.loads(json.loads(post.payload)["event"])["event"]
    assert all("\0" not in value for value in command.variables.values())


def test_the_webhooks_url_stands_in_no_argument_and_no_variable() -> None:
    (notification,) = notifications(HooksConfig(webhook=URL), "exit", FACTS)
    assert not any("geheim" in text for text in [*notification.command, *notification.variables.values()])
    assert json.loads(notification.payload)["url"] == URL
