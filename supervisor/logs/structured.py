"""Log lines: one schema for all processes, as JSON (python-json-logger) or for a terminal.

Every process calls `configure` once, a worker `rename` after its fork; `logging` calls of user code use the same
handler, with an empty `event`. No broker password may reach a line: each field and exception text is redacted. A field
cannot replace the head of a line, except `pid`: an exit record names the child's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from supervisor.config.schema import LogConfig
from supervisor.logs.events import Event
from supervisor.logs.readable import HEAD, readable
from supervisor.logs.redaction import Redactor, passwords, redact
from supervisor.logs.run_fields import NAMES, is_missing, run_fields
from supervisor.logs.target import LineHandler, open_target
from supervisor.system.clock import rfc3339

__all__ = ["OWN", "LogGuard", "add_secret", "configure", "hide_passwords", "log", "own_handlers", "redact", "rename"]

OWN = "preforkd"
"""The logger of preforkd's own lines; all others are user code's."""

_EXTRA = "preforkd_line"

_redactor = Redactor()  # of the process, as the logging tree itself is


def log(event: Event, message: str, /, *, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line with `message`, at a `level` of logging. `**fields`: JSON values, added unchanged."""
    logging.getLogger(OWN).log(level, "%s", message, extra={_EXTRA: (event, fields)})


def configure(config: LogConfig, process: str) -> None:
    """Send all logging of this process to the target of `config`; `process`: its title, as in `worker email/0`.

    Raises StateError if the log file cannot be opened; logging then stays unchanged. May be called again.
    """
    target, on_terminal = open_target(config)
    console = config.format == "console" or (config.format == "auto" and on_terminal)
    formatter = ConsoleLines(process) if console else JsonLines(process)
    for handler in own_handlers():
        for logger in _places():
            logger.removeHandler(handler)
        handler.close_target()
    root, ours = _places()
    root.addHandler(LineHandler(target, formatter))
    root.setLevel(config.level.upper())
    ours.propagate = True


def rename(config: LogConfig, process: str) -> None:
    """Set the title `process` in a fork of a process that has called `configure`, with the effect of calling it again.

    If user code has not changed the handler it is kept: its memory stays shared with the parent (half a MiB). Raises
    StateError as `configure`.
    """
    root, _ours = _places()
    match own_handlers():
        case [LineHandler(formatter=JsonLines() as lines, level=logging.NOTSET, filters=[]) as handler]:
            lines.process = process
            handler.forget_losses()
        case _:
            configure(config, process)
    if logging.getLevelName(root.level) != config.level.upper():
        root.setLevel(config.level.upper())


def own_handlers() -> list[LineHandler]:
    """The handler of preforkd: at the root logger, or at its own logger if user code has configured the root."""
    found = [handler for logger in _places() for handler in logger.handlers if isinstance(handler, LineHandler)]
    return list(dict.fromkeys(found))


class LogGuard:
    """Keeps preforkd's own log lines working in processes whose user code changes Python's `logging`.

    Made after the log is configured, before user code runs; `level`: as in [log]. User code may configure the root
    logger for its own lines. Restored are: preforkd's loggers, if disabled (as `logging.config.dictConfig` does to all
    loggers) or at another level, `logging.disable`, a record factory that makes no records, and the fields of the run
    on each record.
    """

    def __init__(self, level: str) -> None:
        self._level = logging.getLevelNamesMapping()[level.upper()]
        self._handlers = [(handler, handler.formatter) for handler in own_handlers()]
        self._root, self._ours = _places()
        known = [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
        self._loggers = [logger for logger in known if f"{logger.name}.".startswith(f"{OWN}.")]
        self._factory = logging.getLogRecordFactory()
        run_fields.install()

    def restore(self) -> None:
        """Restore the loggers of preforkd, if user code has changed them. Costs no system call."""
        if self._ours.level != self._level:
            self._ours.setLevel(self._level)
        if self._root.manager.disable:
            logging.disable(logging.NOTSET)
        for logger in self._loggers:
            logger.disabled = False
        for handler, formatter in self._handlers:
            handler.level, handler.formatter = logging.NOTSET, formatter
            self._attach(handler)
        factory = logging.getLogRecordFactory()
        if factory is not self._factory and not _makes_records(factory):
            logging.setLogRecordFactory(self._factory)
        run_fields.install()

    def _attach(self, handler: LineHandler) -> None:
        if not self._root.handlers:
            self._root.addHandler(handler)
        at_root = handler in self._root.handlers
        if at_root is (handler in self._ours.handlers):
            (self._ours.removeHandler if at_root else self._ours.addHandler)(handler)
        self._ours.propagate = at_root


def _makes_records(factory: object) -> bool:
    try:
        made = factory(OWN, logging.INFO, "", 0, "", (), None)  # type: ignore[operator]  # the call is the test
    except Exception:  # noqa: BLE001  (user code: it would raise in preforkd's own calls, too)
        return False
    return isinstance(made, logging.LogRecord)


def _places() -> tuple[logging.Logger, logging.Logger]:
    return logging.getLogger(), logging.getLogger(OWN)


def add_secret(secret: str) -> None:
    """Mask the text `secret` in every line from now on."""
    _redactor.add(secret)


def hide_passwords(urls: Iterable[str]) -> None:
    """Mask the passwords of the broker `urls` in every line from now on."""
    for url in urls:
        for password in passwords(url):
            add_secret(password)


class JsonLines(JsonFormatter):
    """One JSON object a line: the head, then the event's fields, or a user's `extra` and exception.

    `process`: its title, in every line. `log_data`: the fields of a line, filled by `add_fields`.
    """

    def __init__(self, process: str) -> None:
        super().__init__([], reserved_attrs=[*RESERVED_ATTRS, _EXTRA], json_ensure_ascii=False)
        self.process = process

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Fill `log_data`; called by python-json-logger, with exception texts in `message_dict`."""
        event, fields = getattr(record, _EXTRA, ("", {"logger": record.name}))
        more: dict[str, Any] = {}
        super().add_fields(more, record, message_dict)
        for name in NAMES:
            if name in fields or is_missing(more.get(name)):  # a field of the event comes first
                more.pop(name, None)
        log_data.update(self._head(record, event))
        for name, value in {**fields, **more}.items():
            if name not in HEAD or name == "pid":
                log_data[name] = _redactor.clean(value)

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        """The line, with control characters (C1, changes of direction) escaped as in JSON."""
        line = super().serialize_log_record(log_data)
        return line if line.isprintable() else "".join(map(_json_printable, line))

    def _head(self, record: logging.LogRecord, event: str) -> dict[str, Any]:
        text = _redactor.clean(record.message)
        level = record.levelname.lower()
        values = (rfc3339(record.created), level, str(event), text, self.process, record.process)
        return dict(zip(HEAD, values, strict=True))


class ConsoleLines(JsonLines):
    """The line for a terminal, as of `readable`."""

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        """The line for `log_data`, then texts of several lines (stacks) indented below it."""
        return readable(log_data)


def _json_printable(char: str) -> str:
    return char if char.isprintable() else json.dumps(char)[1:-1]
