"""One schema for every line of every process; no password in any; a full disk or a moved file stops no process."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.config.schema import LogConfig
from supervisor.errors import StateError
from supervisor.logs import structured
from supervisor.logs.events import Event
from supervisor.logs.redaction import Redactor
from supervisor.logs.target import LineHandler, Target


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(structured, "_redactor", Redactor())
    root = logging.getLogger()
    level = root.level
    yield
    for handler in structured.own_handlers():
        for logger in (root, logging.getLogger(structured.OWN)):
            logger.removeHandler(handler)
        handler.close_target()
    root.setLevel(level)
    logging.getLogger(structured.OWN).setLevel(logging.NOTSET)
    logging.getLogger(structured.OWN).propagate = True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "preforkd.log"


def configure(file: Path, *, level: str = "info", format: str = "json") -> None:
    structured.configure(LogConfig(level=level, format=format, file=str(file)), "worker email/0")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def handler() -> LineHandler:
    return next(handler for handler in logging.getLogger().handlers if isinstance(handler, LineHandler))


# ---- the schema ---------------------------------------------------------------------------------------------------


def test_a_line_has_the_head_then_the_fields_of_its_event(file: Path) -> None:
    configure(file)
    structured.log(Event.MESSAGE_RETRIED, "tried again", message_id="m1", delay_s=1.5, stack=None)
    (line,) = lines(file)
    assert list(line) == ["at", "level", "event", "message", "process", "pid", "message_id", "delay_s", "stack"]
    assert line["at"].endswith("Z")
    assert line["level"] == "info"
    assert line["event"] == "message.retried"
    assert line["message"] == "tried again"
    assert line["process"] == "worker email/0"
    assert line["pid"] == os.getpid()


def test_an_exit_record_names_the_pid_of_the_child(file: Path) -> None:
    configure(file)
    structured.log(Event.WORKER_EXITED, "gone", pid=71, pool="email", name="x", args=[1], process="forged", at="forged")
    (line,) = lines(file)
    assert line["pid"] == 71
    assert (line["name"], line["args"]) == ("x", [1])
    assert line["process"] == "worker email/0"
    assert line["at"] != "forged"


def test_a_percent_sign_in_our_text_is_only_that(file: Path) -> None:
    configure(file)
    structured.log(Event.LEDGER_SLOW, "100 %s full")
    assert lines(file)[0]["message"] == "100 %s full"


def test_a_users_line_takes_the_same_way_with_an_empty_event(file: Path) -> None:
    configure(file)
    logging.getLogger("myapp.email").warning("sent %d", 3, extra={"order": "o1", "event": "forged", "pid": 1})
    (line,) = lines(file)
    assert (line["event"], line["message"], line["level"]) == ("", "sent 3", "warning")
    assert (line["logger"], line["order"]) == ("myapp.email", "o1")


def test_an_exception_is_one_field_of_one_line(file: Path) -> None:
    configure(file)
    try:
        raise ValueError("böse")
    except ValueError:
        logging.getLogger("myapp").exception("failed")
    (line,) = lines(file)
    assert line["exc_info"].endswith("ValueError: böse")


def test_a_line_that_cannot_be_formatted_says_where_it_came_from(file: Path) -> None:
    configure(file)
    handler().handle(
        logging.makeLogRecord({"name": "myapp", "pathname": "app.py", "lineno": 7, "msg": "%d", "args": ("none",)})
    )
    (line,) = lines(file)
    assert line["message"].startswith("a log line of app.py:7")
    assert "cannot be formatted: TypeError" in line["message"]


def test_text_that_is_no_unicode_still_makes_a_json_line(file: Path) -> None:
    configure(file)
    structured.log(Event.MESSAGE_FAILED, "bad \udcff text", message_id="ü\n")
    (line,) = lines(file)
    assert (line["message"], line["message_id"]) == ("bad \udcff text", "ü\n")


def test_a_json_line_has_nothing_in_it_that_a_terminal_obeys(file: Path) -> None:
    configure(file)
    odd = "\x1b[31m \x9b31m \u202e \U000e0001 \x7f ü\n"
    structured.log(Event.MESSAGE_FAILED, odd, message_id=odd)
    written = file.read_text()
    assert written.removesuffix("\n").isprintable()
    assert "ü" in written
    (line,) = lines(file)
    assert (line["message"], line["message_id"]) == (odd, odd)


def test_a_level_below_the_configured_one_is_not_written(file: Path) -> None:
    configure(file, level="warning")
    structured.log(Event.WORKER_READY, "ready")
    structured.log(Event.POOL_HELD, "held", level=logging.WARNING)
    assert [line["event"] for line in lines(file)] == ["pool.held"]


def test_configuring_again_replaces_and_does_not_double(file: Path) -> None:
    configure(file)
    structured.configure(LogConfig(format="json", file=str(file)), "master")
    structured.log(Event.DAEMON_READY, "ready")
    assert [line["process"] for line in lines(file)] == ["master"]


# ---- for people ---------------------------------------------------------------------------------------------------


def test_the_console_shows_one_readable_line_and_stacks_below(file: Path) -> None:
    configure(file, format="console")
    structured.log(Event.MESSAGE_FAILED, "it failed", level=logging.WARNING, message_id="m1", stack="one\ntwo", note="")
    first, *below = file.read_text().splitlines()
    head = f"warning worker email/0[{os.getpid()}] message.failed: it failed  message_id=m1"
    assert first.partition(" ")[2] == head
    assert below == ["    one", "    two"]


def test_a_terminal_is_never_sent_what_it_would_obey(file: Path) -> None:
    configure(file, format="console")
    structured.log(Event.MESSAGE_FAILED, "\x1b[2Jgone", message_id="\x1b]0;title\x07", stack="a\n\x1b[31mred")
    assert "\x1b" not in file.read_text()
    assert "\\x1b[2Jgone" in file.read_text()


def test_auto_is_console_on_a_terminal_and_json_elsewhere(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(file, format="auto")
    structured.log(Event.DAEMON_READY, "one")
    assert lines(file)[0]["message"] == "one"
    controller, terminal = os.openpty()
    try:
        structured.configure(LogConfig(file=os.ttyname(terminal)), "master")
        structured.log(Event.DAEMON_READY, "two")
        assert b"daemon.ready: two" in os.read(controller, 4096)
    finally:
        os.close(controller)
        os.close(terminal)


def test_a_dash_is_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    structured.configure(LogConfig(format="json", file="-"), "master")
    structured.log(Event.DAEMON_READY, "ready")
    assert json.loads(capfd.readouterr().err)["event"] == "daemon.ready"


# ---- secrets ------------------------------------------------------------------------------------------------------


def test_no_broker_password_reaches_a_line(file: Path) -> None:
    configure(file)
    structured.hide_passwords(["amqp://guest:hun%22ter@host", "embedded:"])
    try:
        raise ConnectionError('login with hun"ter at amqp://guest:hun%22ter@host failed')
    except ConnectionError:
        logging.getLogger("pika").exception("while using %s", {"password": 'hun"ter'}, extra={"pw": ['hun"ter']})
    structured.log(Event.CONSUMER_DISCONNECTED, 'hun"ter', reason='hun"ter', more={"x": b'hun"ter'})
    text = file.read_text()
    assert "ter" not in text.replace("master", "").replace("hun***", "")
    assert "***" in text


def test_a_secret_does_not_damage_the_head_of_a_line(file: Path) -> None:
    configure(file)
    structured.add_secret("e")
    structured.log(Event.DAEMON_READY, "here")
    (line,) = lines(file)
    assert (line["level"], line["event"], line["process"]) == ("info", "daemon.ready", "worker email/0")
    assert line["message"] == "h***r***"


# ---- files --------------------------------------------------------------------------------------------------------


def test_a_log_file_that_cannot_be_opened_is_explained_and_nothing_changes(file: Path, tmp_path: Path) -> None:
    configure(file)
    with pytest.raises(StateError, match=r"log file .*no/such.* cannot be opened: No such file.*\[log\]"):
        configure(tmp_path / "no" / "such")
    structured.log(Event.DAEMON_READY, "still here")
    assert lines(file)[0]["message"] == "still here"


def test_lines_lost_on_a_full_disk_are_counted_and_told_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(file)
    with monkeypatch.context() as full:
        full.setattr(os, "write", _disk_is_full)
        structured.log(Event.WORKER_READY, "lost one")
        structured.log(Event.WORKER_READY, "lost two")
    structured.log(Event.WORKER_READY, "written")
    structured.log(Event.WORKER_READY, "written, too")
    told, *rest = lines(file)
    assert told["message"] == "2 log line(s) before this one could not be written: No space left on device"
    assert told["level"] == "warning"
    assert [line["message"] for line in rest] == ["written", "written, too"]


def test_a_device_that_is_full_raises_nothing() -> None:
    configure(Path("/dev/full"))
    structured.log(Event.WORKER_READY, "lost")
    handler().flush()


def test_a_line_cut_off_in_the_middle_spoils_no_other(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(file)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(
            os, "write", lambda fd, data: write(fd, data[:10]) if data[:1] == b"{" else _disk_is_full(fd, data)
        )
        structured.log(Event.WORKER_READY, "cut off")
    structured.log(Event.WORKER_READY, "whole")
    torn, told, whole = file.read_text().splitlines()
    assert len(torn) == 10
    assert json.loads(told)["level"] == "warning"
    assert json.loads(whole)["message"] == "whole"


def test_a_reader_that_went_away_stops_no_process() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        configure(Path(f"/dev/fd/{writing}"))
    except StateError:
        pytest.skip("this kernel refuses to open a pipe without a reader")
    finally:
        os.close(writing)
    structured.log(Event.WORKER_READY, "a line without a reader")


def test_our_stderr_is_not_closed_with_its_target(capfd: pytest.CaptureFixture[str]) -> None:
    target = Target("-")
    target.close()
    target.write("still open")
    assert capfd.readouterr().err == "still open\n"


def _disk_is_full(fd: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ---- in a fork ------------------------------------------------------------------------------------------------------


def rename(file: Path) -> None:
    structured.rename(LogConfig(level="info", format="json", file=str(file)), "worker email/1")


def test_under_another_name_lines_take_the_same_way(file: Path) -> None:
    configure(file)
    before = handler()
    rename(file)
    structured.log(Event.DAEMON_READY, "here")
    assert handler() is before
    assert lines(file)[0]["process"] == "worker email/1"


def _removed() -> None:
    logging.getLogger().removeHandler(handler())


def _formatted() -> None:
    handler().setFormatter(logging.Formatter("%(message)s"))


def _deaf() -> None:
    handler().setLevel(logging.CRITICAL)


def _filtered() -> None:
    handler().addFilter(lambda record: False)


def _quiet() -> None:
    logging.getLogger().setLevel(logging.CRITICAL)


@pytest.mark.parametrize("meddle", [_removed, _formatted, _deaf, _filtered, _quiet])
def test_what_user_code_has_done_to_our_logging_is_undone(meddle: Callable[[], None], file: Path) -> None:
    configure(file)
    meddle()
    rename(file)
    structured.log(Event.DAEMON_READY, "here")
    assert [line["process"] for line in lines(file)] == ["worker email/1"]


def test_losses_before_the_fork_are_told_by_the_process_that_had_them(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(file)
    with monkeypatch.context() as full:
        full.setattr(os, "write", _disk_is_full)
        structured.log(Event.DAEMON_READY, "lost")
    rename(file)
    structured.log(Event.DAEMON_READY, "here")
    assert [line["message"] for line in lines(file)] == ["here"]
