"""The target of this process's log lines. Made by `supervisor.logs.structured` in every process.

In a daemon that is the log relay, which writes to stderr or to the file of `[log]` (`relay.py`), or systemd's journal
(`journal.py`). Before the relay starts, and in the command line, a line is one write(2) to stderr or to the file.
It must never stop a process: lines that cannot be written are counted, and the loss is logged once writing works again.
"""

from __future__ import annotations

import logging
import os

from supervisor.config.schema import LogConfig
from supervisor.errors import StateError
from supervisor.logs.journal import JournalTarget, is_journal
from supervisor.logs.pipe import LogPipe, own_reader

STDERR = "-"
JOURNAL, TERMINAL, PLAIN = "journal", "terminal", "plain"
"""Kinds of a destination, called its reader."""

_STDERR_FD = 2
_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FILE_MODE = 0o640


def open_target(config: LogConfig) -> tuple[LogTarget, bool]:
    """The target for the settings of `[log]`, and whether it is a terminal.

    Raises StateError if the file cannot be opened.
    """
    reader, to_stderr = own_reader(), config.file == STDERR
    target: LogTarget
    if reader is None:
        target = file = Target(config.file)
        reader = reader_of(file.descriptor)
    else:
        target = LogPipe()
        reader = reader if to_stderr else PLAIN
    if to_stderr and config.format == "auto" and reader == JOURNAL:
        return JournalTarget(target.write), False
    return target, reader == TERMINAL


def reader_of(descriptor: int) -> str:
    """The kind of the destination behind `descriptor`: JOURNAL, TERMINAL or PLAIN."""
    if os.isatty(descriptor):
        return TERMINAL
    return JOURNAL if is_journal(os.environ.get("JOURNAL_STREAM", ""), descriptor) else PLAIN


class Target:
    """An open descriptor for lines. `file`: a path, or "-" for stderr. Raises StateError if it cannot be opened."""

    def __init__(self, file: str) -> None:
        self._torn = False
        try:
            self.descriptor = _STDERR_FD if file == STDERR else os.open(file, _FILE_FLAGS, _FILE_MODE)
        except OSError as error:
            raise StateError(
                f"the log file {file} cannot be opened: {error.strerror}; "
                'correct its rights or `file` in [log] ("-" is stderr)'
            ) from error

    def write(self, line: str) -> None:
        """Write one `line`, given without its newline.

        Raises OSError; a newline then ends the incomplete line before the next one.
        """
        data = (b"\n" if self._torn else b"") + line.encode(errors="backslashreplace") + b"\n"
        written = os.write(self.descriptor, data)
        while written < len(data):
            self._torn = True
            written += os.write(self.descriptor, data[written:])
        self._torn = False

    def close(self) -> None:
        """Close the file; stderr stays open."""
        if self.descriptor != _STDERR_FD:
            os.close(self.descriptor)


LogTarget = Target | LogPipe | JournalTarget


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
