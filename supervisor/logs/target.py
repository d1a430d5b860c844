"""The target of this process's log lines. Made by `supervisor.logs.structured` in every process.

In a daemon that is the log relay, which writes to stderr or to the file of `[log]` (`relay.py`), or systemd's journal
(`journal.py`). Before the relay starts, and in the command line, a line is one write(2) to stderr or to the file, which
is opened again after logrotate has moved it.
It must never stop a process: lines that cannot be written are counted, and the loss is logged once writing works again.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from supervisor.config.schema import LogConfig
from supervisor.errors import StateError
from supervisor.logs.journal import JournalTarget, is_journal
from supervisor.logs.pipe import LINE, LogPipe, identity, own_stream

STDERR = "-"
JOURNAL, TERMINAL = "journal", "terminal"
"""Kinds of a relay's destination."""

_STDERR_FD = 2
_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FILE_MODE = 0o640


def open_target(config: LogConfig) -> LogTarget:
    """The target for the settings of `[log]`. Raises StateError if the file cannot be opened."""
    stream, to_stderr = own_stream(), config.file == STDERR
    if stream is None:
        variable = os.environ.get("JOURNAL_STREAM", "")
        return (
            JournalTarget() if to_stderr and config.format == "auto" and is_journal(variable) else Target(config.file)
        )
    if to_stderr and config.format == "auto" and stream.reader == JOURNAL:
        return JournalTarget(fallback=RelayTarget(False).write)
    return RelayTarget(to_stderr and stream.reader == TERMINAL)


class LogTarget(Protocol):
    """A destination of formatted lines."""

    def is_terminal(self) -> bool:
        """Whether lines are shown on a terminal."""

    def write(self, line: str) -> None:
        """Write one `line`, given without its newline. Raises OSError if it is lost."""

    def close(self) -> None:
        """Close its descriptor; the next line opens it again if possible."""


class RelayTarget:
    """Sends lines to the log relay. `terminal`: whether the relay writes to a terminal."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal
        self._pipe = LogPipe()

    def is_terminal(self) -> bool:
        """Whether the relay writes to a terminal."""
        return self._terminal

    def write(self, line: str) -> None:
        """Send one `line`. Raises OSError if it is lost."""
        self._pipe.send(LINE, line.encode(errors="backslashreplace") + b"\n")

    def close(self) -> None:
        """Close the descriptor; the next line opens one again."""
        self._pipe.close()


class Target:
    """An open descriptor for lines. `file`: a path, or "-" for stderr. Raises StateError if it cannot be opened."""

    def __init__(self, file: str) -> None:
        self._path = "" if file == STDERR else file
        self._torn = False
        try:
            self._fd = os.open(file, _FILE_FLAGS, _FILE_MODE) if self._path else _STDERR_FD
        except OSError as error:
            raise StateError(
                f"the log file {file} cannot be opened: {error.strerror}; "
                'correct its rights or `file` in [log] ("-" is stderr)'
            ) from error
        self._identity = identity(self._fd)

    def is_terminal(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._fd)

    def write(self, line: str) -> None:
        """Write one `line`. Raises OSError; a newline then ends the incomplete line before the next one."""
        self._follow()
        data = (b"\n" if self._torn else b"") + line.encode(errors="backslashreplace") + b"\n"
        written = os.write(self._fd, data)
        while written < len(data):
            self._torn = True
            written += os.write(self._fd, data[written:])
        self._torn = False

    def close(self) -> None:
        """Close the file; stderr stays open."""
        if self._path and identity(self._fd) == self._identity:
            os.close(self._fd)

    def _follow(self) -> None:
        """Open the file again if it was moved, or user code has closed the descriptor; a failure keeps the former one.

        A file that user code has opened under the same number is left alone.
        """
        if not self._path:
            return
        held = identity(self._fd) == self._identity
        with suppress(OSError):
            there = Path(self._path).stat()
            if held and (there.st_dev, there.st_ino) == self._identity:
                return
        with suppress(OSError):
            fresh = os.open(self._path, _FILE_FLAGS, _FILE_MODE)
            if held:
                os.close(self._fd)
            self._fd, self._identity, self._torn = fresh, identity(fresh), False


class LineHandler(logging.Handler):
    """Writes formatted records to a target, and raises nothing."""

    def __init__(self, target: LogTarget, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._target = target
        self._lost = 0
        self._reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line, after a report of lines lost before it."""
        line = self._line(record)
        try:
            if self._lost:
                self._target.write(self.format(self._loss()))
                self._lost = 0
            self._target.write(line)
        except Exception as error:  # noqa: BLE001  (a failed write, or a function that user code has replaced)
            self._lost += 1
            self._reason = getattr(error, "strerror", None) or str(error)

    def forget_losses(self) -> None:
        """Reset the count in a fork: the parent reports its own losses."""
        self._lost = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the record; an exception in a filter of user code counts as yes."""
        try:
            return super().filter(record)
        except Exception:  # noqa: BLE001  (user code; its failure must not become the failure of the caller)
            return True

    def close_target(self) -> None:
        """Close handler and target. `close` keeps the target open: user code calls it by dictConfig and shutdown."""
        self.close()
        self._target.close()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001  (what users log may raise anything from __str__)
            kept = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            text = f"a log line of {record.pathname}:{record.lineno} cannot be formatted: {type(error).__name__}"
            return self.format(logging.makeLogRecord(kept | {"msg": text}))

    def _loss(self) -> logging.LogRecord:
        text = f"{self._lost} log line(s) before this one could not be written: {self._reason}"
        return logging.makeLogRecord(
            {"name": "preforkd", "levelno": logging.WARNING, "levelname": "WARNING", "msg": text}
        )
