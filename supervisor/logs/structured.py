"""Log lines: one schema for all processes, as JSON (python-json-logger) or for a terminal.

Every process calls `configure` once, a worker `rename` after its fork; `logging` calls of user code use the same
handler, with an empty `event`. No broker password may reach a line: each field and exception text is redacted. A field
cannot replace the head of a line, except `pid`: an exit record names the child's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from supervisor.config.schema import LogConfig
from supervisor.logs.events import Event
from supervisor.logs.redaction import Redactor, passwords, redact
from supervisor.logs.target import LineHandler, open_target
from supervisor.system.clock import rfc3339

__all__ = ["OWN", "add_secret", "configure", "hide_passwords", "log", "own_handlers", "redact", "rename"]

OWN = "preforkd"
"""The logger of preforkd's own lines; all others are user code's."""

_EXTRA = "preforkd_line"
_HEAD = ("at", "level", "event", "message", "process", "pid")

_redactor = Redactor()  # of the process, as the logging tree itself is


def log(event: Event, message: str, /, *, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line with `message`, at a `level` of logging. `**fields`: JSON values, added unchanged."""
    logging.getLogger(OWN).log(level, "%s", message, extra={_EXTRA: (event, fields)})


def configure(config: LogConfig, process: str) -> None:
    """Send all logging of this process to the target of `config`; `process`: its title, as in `worker email/0`.

    Raises StateError if the log file cannot be opened; logging then stays unchanged. May be called again.
    """
    target = open_target(config)
    formatter = _FORMATTERS[config.format, target.is_terminal()](process, _redactor)
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

    def __init__(self, process: str, redactor: Redactor) -> None:
        super().__init__([], reserved_attrs=[*RESERVED_ATTRS, _EXTRA], json_ensure_ascii=False)
        self.process = process
        self._redactor = redactor

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Fill `log_data`; called by python-json-logger, with exception texts in `message_dict`."""
        event, fields = getattr(record, _EXTRA, ("", {"logger": record.name}))
        more: dict[str, Any] = {}
        super().add_fields(more, record, message_dict)
        log_data.update(self._head(record, event))
        for name, value in {**fields, **more}.items():
            if name not in _HEAD or name == "pid":
                log_data[name] = self._redactor.clean(value)

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        """The line, with control characters (C1, changes of direction) escaped as in JSON."""
        line = super().serialize_log_record(log_data)
        return line if line.isprintable() else "".join(map(_json_printable, line))

    def _head(self, record: logging.LogRecord, event: str) -> dict[str, Any]:
        text = self._redactor.clean(record.message)
        level = record.levelname.lower()
        values = (rfc3339(record.created), level, str(event), text, self.process, record.process)
        return dict(zip(_HEAD, values, strict=True))


class ConsoleLines(JsonLines):
    """The line for a terminal: `12:00:01.250 warning worker email/0[71] message.failed: text  key=value`."""

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        """The line for `log_data`, then texts of several lines (stacks) indented below it."""
        at, level, event, message, process, pid = (log_data.pop(name) for name in _HEAD)
        clock = datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S.%f")[:-3]
        shown = {name: value if isinstance(value, str) else str(value) for name, value in log_data.items()}
        blocks = [text for text in shown.values() if "\n" in text]
        words = [f"{name}={_printable(text)}" for name, text in shown.items() if text and "\n" not in text]
        head = f"{clock} {level:7} {process}[{pid}] {event + ': ' if event else ''}{_printable(message)}"
        return "\n    ".join(
            [
                "  ".join([head, *words]),
                *(_printable(line) for block in blocks for line in block.splitlines()),
            ]
        )


_FORMATTERS: dict[tuple[str, bool], type[JsonLines]] = {
    ("json", False): JsonLines,
    ("json", True): JsonLines,
    ("console", False): ConsoleLines,
    ("console", True): ConsoleLines,
    ("auto", False): JsonLines,
    ("auto", True): ConsoleLines,
}
"""By `format` of [log] and whether the target is a terminal."""


def _json_printable(char: str) -> str:
    return char if char.isprintable() else json.dumps(char)[1:-1]


def _printable(text: str) -> str:
    """Escape control characters: ids and errors come from outside."""
    return text if text.isprintable() else repr(text)[1:-1]
