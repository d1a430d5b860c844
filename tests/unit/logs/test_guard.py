"""Whatever user code does to Python's `logging`, preforkd's own lines reach the log, and no file of user code does."""

from __future__ import annotations

import json
import logging
import logging.config
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.config.schema import LogConfig
from supervisor.logs import structured
from supervisor.logs.events import Event
from supervisor.logs.pipe import LogPipe
from supervisor.logs.relay import LINE, STDERR, Pipe
from supervisor.logs.structured import LogGuard
from tests.support.logging_state import logging_as_before

_DJANGO = {
    "version": 1,
    "disable_existing_loggers": True,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["console"], "level": "INFO"}},
}


def _refuse(*given: Any, **named: Any) -> logging.LogRecord:
    raise RuntimeError("no record")


def _other_format() -> None:
    for handler in structured.own_handlers():
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.setLevel(logging.CRITICAL)


def _own_root_handlers() -> None:
    logging.basicConfig(level=logging.CRITICAL, force=True)


def _bad_filter() -> None:
    for handler in structured.own_handlers():
        handler.addFilter(lambda record: 1 // 0 == 0)


DEEDS: dict[str, Callable[[], object]] = {
    "dictConfig without root": lambda: logging.config.dictConfig(_DJANGO),
    "dictConfig with root": lambda: logging.config.dictConfig({**_DJANGO, "root": {"handlers": ["console"]}}),
    "basicConfig with force": _own_root_handlers,
    "shutdown": logging.shutdown,
    "disable": lambda: logging.disable(logging.CRITICAL),
    "root at a level of its own": lambda: logging.getLogger().setLevel(logging.CRITICAL),
    "no root handler": lambda: logging.getLogger().handlers.clear(),
    "our logger switched off": lambda: setattr(logging.getLogger(structured.OWN), "disabled", True),
    "our logger cut off": lambda: setattr(logging.getLogger(structured.OWN), "propagate", False),
    "our logger at a level": lambda: logging.getLogger(structured.OWN).setLevel(logging.CRITICAL),
    "another format on all handlers": _other_format,
    "a filter that raises": _bad_filter,
    "a record factory that raises": lambda: logging.setLogRecordFactory(_refuse),
    "raiseExceptions": lambda: setattr(logging, "raiseExceptions", True),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "preforkd.log"


@pytest.fixture
def guard(file: Path) -> Iterator[LogGuard]:
    with logging_as_before():
        logging.getLogger().handlers[:] = []  # pytest's own are not user code's
        structured.configure(LogConfig(level="info", format="json", file=str(file)), "worker email/0")
        own = structured.own_handlers()
        yield LogGuard("info")
        for line_handler in own:
            line_handler.close_target()


def messages(file: Path) -> list[str]:
    return [json.loads(line)["message"] for line in file.read_text().splitlines()]


@pytest.mark.parametrize("deed", DEEDS)
def test_our_lines_reach_the_log_once_after(deed: str, guard: LogGuard, file: Path) -> None:
    DEEDS[deed]()
    guard.restore()
    guard.restore()
    structured.log(Event.WORKER_READY, "still here")
    logging.getLogger("preforkd.worker").warning("and this")
    assert messages(file) == ["still here", "and this"]


def test_what_user_code_has_configured_for_itself_stays(guard: LogGuard, file: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    logging.basicConfig(filename=theirs, format="%(message)s", level=logging.INFO, force=True)
    guard.restore()
    logging.getLogger("app").info("a line of theirs")
    structured.log(Event.WORKER_READY, "a line of ours")
    assert theirs.read_text() == "a line of theirs\n"
    assert messages(file) == ["a line of ours"]


def test_a_line_of_user_code_goes_to_the_log_where_it_has_configured_nothing(guard: LogGuard, file: Path) -> None:
    logging.config.dictConfig(_DJANGO)
    guard.restore()
    logging.getLogger("new").warning("a line of theirs")
    assert messages(file) == ["a line of theirs"]


def test_the_log_goes_on_when_its_descriptor_was_closed_and_the_users_file_stays_clean(tmp_path: Path) -> None:
    read, write = os.pipe()
    log = LogPipe(write)
    log.write("before")
    number = log._descriptor
    os.close(number)
    with (tmp_path / "theirs").open("w") as user_file:  # it has our descriptor's number now
        assert user_file.fileno() == number
        log.write("still here")
        user_file.write("theirs")
    log.close()
    os.close(write)
    with open(read, "rb") as pipe:
        assert list(Pipe(read, STDERR).feed(pipe.read())) == [(LINE, b"before\n"), (LINE, b"still here\n")]
    assert (tmp_path / "theirs").read_text() == "theirs"
