"""The language of the control socket: what is understood, and what is said about what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.control.protocol import (
    VERBS,
    Pending,
    answer_line,
    error_line,
    read_answer,
    read_request,
    request_line,
)
from supervisor.errors import ConfigError, ControlError, Problem

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("status", {}),
    ("ping", {}),
    ("stop", {}),
    ("stop", {"now": True, "timeout_s": 2.5, "wait": True}),
    ("stop", {"timeout_s": 2}),
    ("stop", {"timeout_s": 0}),
    ("stop", {"timeout_s": None}),
    ("find", {"message_id": "order-1"}),
    ("pending", {"pool": "email", "drop": ["order-1"], "all": False, "by": "alice"}),
    ("cut_connection", {"pool": "email"}),
    ("reload", {"wait": True}),
    ("scale", {"pool": "email", "workers": 3}),
    ("pause", {"pool": "email", "by": "alice"}),
    ("resume", {"pool": "email"}),
    ("retry", {"pool": "email"}),
]

BAD: list[tuple[bytes, str]] = [
    (b"", "not a line of JSON"),
    (b"status", "not a line of JSON"),
    (b"\xff\xfe\x00", "not a line of JSON"),
    (b"[" * 60_000, "not a line of JSON"),
    (b'["status"]', "a request is an object"),
    (b"17", "a request is an object"),
    (b"{}", "there is no verb None"),
    (b'{"verb": 3}', "there is no verb 3"),
    (b'{"verb": ["stop"]}', "there is no verb ['stop']"),
    (b'{"verb": "shutdown"}', "there is no verb 'shutdown'; there are status, stop"),
    (b'{"verb": "ping", "pool": "x"}', "ping takes no argument 'pool'; it takes none"),
    (b'{"verb": "stop", "pool": "x"}', "it takes now, timeout_s, wait"),
    (b'{"verb": "stop", "now": 1}', "stop: now must be bool, not 1"),
    (b'{"verb": "stop", "timeout_s": true}', "stop: timeout_s must be int or float or NoneType, not True"),
    (b'{"verb": "stop", "timeout_s": "30s"}', "not '30s'"),
    (
        b'{"verb": "stop", "timeout_s": -1}',
        "stop: timeout_s must not be negative, as -1 is: 0 or more seconds, or null",
    ),
    (b'{"verb": "stop", "timeout_s": -0.5}', "as -0.5 is"),
    (b'{"verb": "cut_connection", "pool": null}', "cut_connection: pool must be str"),
]


@pytest.mark.parametrize(("verb", "arguments"), GOOD)
def test_a_request_arrives_as_it_was_asked(verb: str, arguments: dict[str, Any]) -> None:
    line = request_line(verb, arguments)

    assert line.endswith(b"\n")
    assert read_request(line.rstrip()) == {"verb": verb, **arguments}


@pytest.mark.parametrize(("line", "says"), BAD)
def test_a_bad_request_is_told_what_is_wrong(line: bytes, says: str) -> None:
    with pytest.raises(ControlError) as caught:
        read_request(line)

    assert says in str(caught.value)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_control_error(line: bytes) -> None:
    try:
        request = read_request(line)
    except ControlError:
        return
    assert request["verb"] in VERBS


@given(
    st.dictionaries(
        st.sampled_from(["verb", "now", "timeout_s", "wait", "pool", "x"]),
        st.one_of(st.sampled_from(list(VERBS)), st.none(), st.booleans(), st.floats(), st.integers(), st.text()),
    )
)
def test_what_passes_has_only_known_arguments_of_known_types(request: dict[str, Any]) -> None:
    try:
        read = read_request(json.dumps(request).encode())
    except ControlError:
        return
    kinds = VERBS[read["verb"]]
    assert all(type(value) in kinds[name] for name, value in read.items() if name != "verb")


def test_a_result_comes_back_as_it_was_given() -> None:
    assert read_answer(answer_line({"pid": 7, "pools": {"email": None}})) == {"pid": 7, "pools": {"email": None}}


def test_an_error_comes_back_with_its_words_and_its_exit_code() -> None:
    refusal = ConfigError("preforkd.toml", [Problem("pools.x.workers", "0", "must be at least 1")])

    with pytest.raises(ControlError, match=r"pools\.x\.workers = 0: must be at least 1") as caught:
        read_answer(error_line(refusal))

    assert caught.value.exit_code == 78


@pytest.mark.parametrize("result", [{"text": "\ud800"}, {"thing": object()}])
def test_a_result_that_json_cannot_hold_becomes_an_error_line(result: dict[str, Any]) -> None:
    with pytest.raises(ControlError, match="cannot be written as JSON"):
        read_answer(answer_line(result))


def test_an_error_with_a_lone_surrogate_can_be_written() -> None:
    with pytest.raises(ControlError, match=r"bad id \\ud800"):
        read_answer(error_line(ControlError("bad id \ud800")))


@pytest.mark.parametrize("line", [b"HTTP/1.1 400 Bad Request", b"[]", b'{"result": {}}', b'{"ok": "yes"}', b"\xff"])
def test_an_answer_that_is_not_ours_is_named(line: bytes) -> None:
    with pytest.raises(ControlError, match="is not preforkd's"):
        read_answer(line)


def test_a_pending_answer_is_delivered_when_it_is_complete_and_only_once() -> None:
    pending, lines = Pending(), list[bytes]()
    pending.attach(lines.append)
    assert lines == []

    pending.complete({"a": 1})
    pending.complete({"a": 2})
    pending.fail(ControlError("too late"))

    assert lines == [answer_line({"a": 1})]


def test_an_answer_completed_before_anybody_waits_for_it_is_not_lost() -> None:
    pending, lines = Pending(first={"stopping": True}), list[bytes]()
    pending.fail(ControlError("no"))

    pending.attach(lines.append)

    assert lines == [error_line(ControlError("no"))]
