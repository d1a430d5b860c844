"""Lines of a log as `preforkd logs` shows them: each form that a line has, hostile text, and the pools they name."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.cli.logs.journal import matches_of
from supervisor.cli.logs.lines import Line, is_about, line_of, line_of_entry, shown_line
from supervisor.logs.journal import entry
from supervisor.logs.relay import loss_line
from supervisor.logs.structured import ConsoleLines

FACTS: dict[str, Any] = {
    "at": "2026-11-30T08:50:28.123Z",
    "level": "warning",
    "event": "message.failed",
    "message": "it failed",
    "process": "worker email/0",
    "pid": 71,
    "message_id": "order-7",
    "stack": "Traceback:\n  File x",
}
SHOWN = (
    "2026-11-30 08:50:28.123 warning worker email/0[71] message.failed: it failed  message_id=order-7\n"
    "    Traceback:\n      File x"
)
PRINTED = Line("plain text of a handler")


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as context:
        context.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def as_json(**changed: Any) -> bytes:
    return json.dumps(FACTS | changed).encode()


def in_journal(facts: dict[str, Any]) -> dict[str, Any]:
    """The entry that journald makes of a line, as journalctl prints it."""
    data, found = entry(facts), dict[str, Any]()
    while data:
        name, end, data = min((data.partition(mark) for mark in (b"=", b"\n")), key=lambda parts: len(parts[0]))
        if end == b"=":
            value, _, data = data.partition(b"\n")
        else:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        found[name.decode()] = value.decode()
    return {**found, "__REALTIME_TIMESTAMP": "1796028628123000", "__CURSOR": "s=1", "_PID": str(facts["pid"])}


# ---- forms --------------------------------------------------------------------------------------------------------


def test_a_json_line_is_shown_with_date_and_local_time_and_its_stack_below() -> None:
    assert shown_line(line_of(as_json())) == SHOWN


@pytest.mark.parametrize("value", [None, ""])
def test_a_field_without_a_value_is_not_shown(value: object) -> None:
    assert shown_line(line_of(as_json(signal=value))) == SHOWN


def test_an_entry_of_the_journal_is_shown_as_the_same_line_in_a_file() -> None:
    assert shown_line(line_of_entry(in_journal(FACTS))) == SHOWN


def test_a_json_line_that_went_to_the_journal_is_shown_as_any_other() -> None:
    assert shown_line(line_of_entry({"MESSAGE": as_json().decode(), "PRIORITY": "6"})) == SHOWN


def test_an_entry_of_systemd_itself_has_its_time_and_its_writer() -> None:
    found = {
        "MESSAGE": "Main process exited",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "systemd",
        "_PID": "1",
        "__REALTIME_TIMESTAMP": "1796028628123000",
    }
    assert shown_line(line_of_entry(found)) == "2026-11-30 08:50:28.123 warning systemd[1] Main process exited"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([112, 255, 10, 27], r"p\\xff\n\x1b"),
        (["one", "two"], r"one\ntwo"),
        (None, ""),
    ],
)
def test_a_field_of_the_journal_may_be_bytes_several_values_or_too_large(value: object, text: str) -> None:
    line = line_of_entry({"MESSAGE": value, "_COMM": "x", "__REALTIME_TIMESTAMP": "0"})
    assert shown_line(line) == f"1970-01-01 00:00:00.000 info    x[] {text}"


@pytest.mark.parametrize(
    "text",
    [
        "plain text",
        "{not JSON",
        "{}",
        '{"at": 5}',
        json.dumps({**FACTS, "at": "yesterday"}),
        json.dumps({**FACTS, "level": []}),
        json.dumps({name: value for name, value in FACTS.items() if name != "process"}),
        as_json()[:-20].decode(),
        "{" * 100_000,
        '{"a":' * 100_000,
        "",
    ],
    ids=lambda text: text[:12],
)
def test_any_other_text_is_shown_as_it_is(text: str) -> None:
    assert line_of(text.encode()) == Line(text)
    assert shown_line(line_of(text.encode())) == text


def test_a_console_line_is_shown_as_it_is() -> None:
    record = logging.makeLogRecord({"msg": "said", "levelname": "INFO", "name": "mine", "process": 7})
    text = ConsoleLines("worker email/3").format(record)
    assert shown_line(line_of(text.encode())) == text


@pytest.mark.parametrize("name", ["message", "process", "level", "event", "message_id", "stack"])
def test_nothing_in_a_json_line_commands_a_terminal(name: str) -> None:
    shown = shown_line(line_of(as_json(**{name: "a\x1b[2J\nb\u202ec\x9b"})))
    assert shown.replace("\n", "").isprintable()


def test_no_name_of_a_field_commands_a_terminal_or_makes_a_line() -> None:
    shown = shown_line(line_of(as_json(**{"\x1b[2J\nb": "x"})))
    assert (shown.replace("\n", "").isprintable(), shown.count("\n")) == (True, SHOWN.count("\n"))


def test_nothing_in_printed_text_commands_a_terminal() -> None:
    assert shown_line(line_of(b"\ta\x1b[2J\xff\x9b")) == r"        a\x1b[2J\xff\x9b"


def test_a_line_from_the_journal_has_the_same_types_for_a_program() -> None:
    line = line_of_entry(in_journal(FACTS))
    assert line.facts == FACTS


# ---- pools --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", ["worker email/0", "consumer email", "forkserver email", "standby email"])
def test_a_line_of_a_child_is_about_its_pool(process: str) -> None:
    line = line_of(as_json(process=process))
    assert is_about(line, "email")
    assert not is_about(line, "mail")


def test_a_line_of_the_master_is_about_the_pool_in_its_field() -> None:
    assert is_about(line_of(as_json(process="master", pool="email")), "email")
    assert not is_about(line_of(as_json(process="master")), "email")


def test_an_entry_of_the_journal_is_about_the_pool_of_its_process() -> None:
    assert is_about(line_of_entry(in_journal(FACTS)), "email")


def test_the_log_relay_is_no_child_of_a_pool_named_relay() -> None:
    line = line_of(loss_line("json", "lines were lost", 3, 0.0).encode())
    assert line.facts is not None
    assert not is_about(line, "relay")


@pytest.mark.parametrize(
    ("text", "pool"),
    [
        ("08:50:28.123 info    worker email/0[71] said", "email"),
        ("08:50:28.123 info    consumer email[71] consumer.ready: it is ready  queue=x", "email"),
        ("08:50:28.123 warning master[71] pool.held: held  pool=email  why=x", "email"),
        ("08:50:28.123 warning master[71] pool.held: held  why=x  pool=email", "email"),
    ],
)
def test_a_console_line_names_its_pool(text: str, pool: str) -> None:
    assert is_about(line_of(text.encode()), pool)
    assert not is_about(line_of(text.encode()), "other")


@pytest.mark.parametrize("text", ["email", "pool=email", "worker email/0", "  pool=email", ""])
def test_printed_text_names_no_pool(text: str) -> None:
    assert not is_about(line_of(text.encode()), "email")


# ---- units --------------------------------------------------------------------------------------------------------

_MANAGER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("cgroups", "options"),
    [
        ("0::/system.slice/preforkd.service\n", ("--unit=preforkd.service",)),
        ("0::/system.slice/preforkd.service/main\n", ("--unit=preforkd.service",)),
        ("0::/system.slice/system-mail.slice/mail@a\\x2db.service\n", ("--unit=mail@a\\x2db.service",)),
        ("4:memory:/x\n1:name=systemd:/system.slice/mail.service\n", ("--unit=mail.service",)),
        (f"0::{_MANAGER}/app.slice/mail.service\n", ("--user-unit=mail.service",)),
        (f"0::{_MANAGER}/app.slice/vte.scope\n", ("--identifier=preforkd",)),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ("--identifier=preforkd",)),
        ("0::/\n", ("--identifier=preforkd",)),
        ("", ("--identifier=preforkd",)),
        ("nonsense", ("--identifier=preforkd",)),
    ],
)
def test_the_unit_of_a_daemon_is_that_of_its_control_group(cgroups: str, options: tuple[str, ...]) -> None:
    assert matches_of(cgroups) == options
