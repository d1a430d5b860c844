"""A log line as journald reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from supervisor.config.schema import LogConfig
from supervisor.logs.journal import entry, is_journal
from supervisor.logs.target import Target, open_target

LINE: dict[str, Any] = {
    "at": "2026-01-01T00:00:00.000Z",
    "level": "info",
    "event": "worker.exited",
    "message": "it left",
    "process": "worker email/0",
    "pid": 71,
}


def fields(**line: Any) -> dict[str, str]:
    """What the journal makes of a line, read as its protocol says."""
    data, found = entry(LINE | line), {}
    while data:
        name, separator, rest = data.partition(b"\n")
        if b"=" in name:
            name, _, value = name.partition(b"=")
            data = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            value, separator, data = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
        assert separator == b"\n"
        found[name.decode()] = value.decode()
    return found


def test_a_line_has_what_operators_ask_the_journal_for() -> None:
    assert fields() == {
        "MESSAGE": "it left",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "preforkd",
        "PREFORKD_EVENT": "worker.exited",
        "PREFORKD_POOL": "email",
        "PREFORKD_PROCESS": "worker email/0",
        "PREFORKD_PID": "71",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2"), ("level 25", "6")],
)
def test_levels_become_priorities(level: str, priority: str) -> None:
    assert fields(level=level)["PRIORITY"] == priority


@pytest.mark.parametrize(
    ("line", "pool"),
    [
        ({"process": "consumer email"}, "email"),
        ({"process": "forkserver email"}, "email"),
        ({"process": "master", "pool": "mail"}, "mail"),
        ({"process": "master"}, None),
    ],
)
def test_the_pool_is_named_even_where_only_the_process_tells(line: dict[str, str], pool: str | None) -> None:
    assert fields(**line).get("PREFORKD_POOL") == pool


def test_a_stack_is_a_field_and_is_shown_below_the_message() -> None:
    found = fields(stack="Traceback:\n  line 1\n")

    assert found["PREFORKD_STACK"] == "Traceback:\n  line 1\n"
    assert found["MESSAGE"] == "it left\nTraceback:\n  line 1\n"


def test_other_values_are_json_and_nothing_is_left_out_but_what_is_empty() -> None:
    found = fields(status=75, core_dumped=False, queue="", signal=None, requested_by=["a", 1])

    assert (found["PREFORKD_STATUS"], found["PREFORKD_CORE_DUMPED"]) == ("75", "false")
    assert found["PREFORKD_REQUESTED_BY"] == '["a", 1]'
    assert {"PREFORKD_QUEUE", "PREFORKD_SIGNAL"} & found.keys() == set()


def test_no_line_can_make_up_a_field_of_the_journals_own() -> None:
    """Names and values come from users: a name is one of ours, a line end in a value ends nothing."""
    found = fields(**{"_pid\nx=": "1", "message_id": "m\nPRIORITY=0", "ä" * 90: "long"})

    assert found["PRIORITY"] == "6"
    assert found["PREFORKD_MESSAGE_ID"] == "m\nPRIORITY=0"
    assert found["PREFORKD__PID_X_"] == "1"
    assert all(len(name) <= 64 and name.replace("_", "").isalnum() and name.isascii() for name in found)


def test_half_a_character_from_a_user_is_written_so_that_it_can_be_read() -> None:
    assert fields(message="\ud800")["MESSAGE"] == "\\ud800"


def test_the_journal_is_known_by_device_and_inode(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "stream", os.O_CREAT | os.O_WRONLY)
    try:
        found = os.fstat(descriptor)
        assert is_journal(f"{found.st_dev}:{found.st_ino}", descriptor)
        assert not is_journal(f"{found.st_dev}:{found.st_ino + 1}", descriptor)
        assert not is_journal("", descriptor)
    finally:
        os.close(descriptor)
    assert not is_journal("1:1", descriptor), "a closed stderr is no journal"


@pytest.mark.parametrize("config", [LogConfig(format="json"), LogConfig(format="console"), LogConfig()])
def test_lines_stay_lines_where_they_are_asked_for_or_stderr_is_something_else(
    config: LogConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = os.fstat(2)
    stream = f"{stderr.st_dev}:{stderr.st_ino}" if config.format != "auto" else f"{stderr.st_dev}:{stderr.st_ino + 1}"
    monkeypatch.setenv("JOURNAL_STREAM", stream)

    assert type(open_target(config)[0]) is Target
