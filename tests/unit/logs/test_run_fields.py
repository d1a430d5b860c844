"""Every line that a handler logs names its run, whatever the application has done to Python's `logging`."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from supervisor.config.schema import LogConfig
from supervisor.logs import structured
from supervisor.logs.events import Event
from supervisor.logs.readable import readable
from supervisor.logs.run_fields import NAMES, run_fields
from supervisor.logs.structured import LogGuard
from tests.support.logging_state import logging_as_before

FIELDS = {"pool": "email", "slot": 3, "message_id": "order-7", "round": 1, "attempt": 2}


class Numbers(NamedTuple):
    round: int
    attempt: int


class Run(NamedTuple):
    id: str
    run: Numbers


RUN = Run("order-7", Numbers(1, 2))

app = logging.getLogger("app")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "preforkd.log"


@pytest.fixture
def guard(file: Path) -> Iterator[LogGuard]:
    """Of worker email/3, with a run under way."""
    with logging_as_before():
        logging.getLogger().handlers[:] = []  # pytest's own
        structured.configure(LogConfig(format="json", file=str(file)), "worker email/3")
        own = structured.own_handlers()
        made = LogGuard("info")
        run_fields.of_process("email", 3)
        run_fields.begin(RUN)
        yield made
        run_fields.end()
        run_fields.of_process("")
        for line_handler in own:
            line_handler.close_target()


def line(file: Path) -> dict[str, Any]:
    (text,) = file.read_text().splitlines()
    found: dict[str, Any] = json.loads(text)
    return found


def fields(file: Path) -> dict[str, Any]:
    """The fields of the only line that come after its head and its logger."""
    return dict(list(line(file).items())[7:])


def kept_record(**extra: Any) -> logging.LogRecord:
    """A record as a handler of the application gets it."""
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    app.addHandler(handler)
    app.warning("text", extra=extra)
    app.removeHandler(handler)
    return found[0]


def test_a_line_names_the_run_under_the_names_of_preforkds_own_lines(guard: LogGuard, file: Path) -> None:
    app.info("text")

    assert fields(file) == FIELDS
    assert tuple(FIELDS) == NAMES


def test_a_line_of_another_thread_names_the_run_of_its_process(guard: LogGuard, file: Path) -> None:
    thread = Thread(target=app.error, args=("text",))
    thread.start()
    thread.join()

    assert fields(file) == FIELDS


def test_outside_of_a_run_the_attributes_are_empty_and_a_line_leaves_them_out(guard: LogGuard, file: Path) -> None:
    run_fields.end()

    record = kept_record()

    assert [record.__dict__[name] for name in NAMES] == ["email", 3, "", None, None]
    assert fields(file) == {"pool": "email", "slot": 3}


def test_a_field_that_the_caller_gives_stays(guard: LogGuard, file: Path) -> None:
    assert kept_record(attempt=99).__dict__["attempt"] == 99
    assert fields(file) == FIELDS | {"attempt": 99}


def test_a_format_string_of_the_application_shows_them(guard: LogGuard) -> None:
    stream = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "formatters": {"own": {"format": "%(message)s [%(pool)s/%(slot)s %(message_id)s %(round)s.%(attempt)s]"}},
            "handlers": {"own": {"class": "logging.StreamHandler", "stream": stream, "formatter": "own"}},
            "root": {"handlers": ["own"], "level": "INFO"},
        }
    )
    logging.getLogger("made.later").info("text")

    assert stream.getvalue() == "text [email/3 order-7 1.2]\n"


def _other_factory() -> None:
    logging.setLogRecordFactory(lambda *given, **named: logging.LogRecord(*given, **named))


def _other_method() -> None:
    def make(self: logging.Logger, *given: Any) -> logging.LogRecord:
        return logging.LogRecord(*given[:7])

    logging.Logger.makeRecord = make  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("deed", [_other_factory, _other_method])
def test_records_have_them_after_user_code_has_replaced_how_records_are_made(
    deed: Callable[[], None], guard: LogGuard, file: Path
) -> None:
    deed()
    guard.restore()
    app.info("text")

    assert fields(file) == FIELDS


def test_a_factory_that_makes_no_records_gets_none_of_them(guard: LogGuard) -> None:
    no_record = object()
    logging.setLogRecordFactory(lambda *given, **named: no_record)  # type: ignore[arg-type,return-value]

    assert app.makeRecord("app", logging.INFO, "", 1, "", (), None) is no_record


def test_an_event_keeps_its_own_fields(guard: LogGuard, file: Path) -> None:
    structured.log(Event.WORKER_SPOILED, "text", message_id="", slot=8, attempt=None)

    assert dict(list(line(file).items())[6:]) == FIELDS | {"message_id": "", "slot": 8, "attempt": None}


# ---- on a console -------------------------------------------------------------------------------------------------


def shown(event: str = "", **changed: Any) -> str:
    head = {"at": "2026-01-02T03:04:05.678Z", "level": "info", "event": event, "message": "text"}
    return readable({**head, "process": "worker email/3", "pid": 1, **FIELDS, **changed}).partition(" text")[2]


def test_a_console_shows_only_what_its_line_does_not_say_yet() -> None:
    assert shown() == "  message_id=order-7  attempt=2"
    assert shown(attempt=1, round=2) == "  message_id=order-7  round=2"
    assert shown(slot=4, pool="other") == "  pool=other  slot=4  message_id=order-7  attempt=2"


def test_a_console_shows_all_fields_of_an_event() -> None:
    assert shown("worker.spoiled", attempt=1) == "  pool=email  slot=3  message_id=order-7  round=1  attempt=1"
