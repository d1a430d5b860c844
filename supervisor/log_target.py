"""Where log lines go: stderr or a file, one `write` a line. Made by `supervisor.logs` in every process.

It must never stop a process: a line that cannot be written (disk full, reader gone) is counted, and the loss
is told once writing works again. A file is opened for appending, so that lines of several processes do not
overwrite each other, and opened anew when logrotate has moved it; where that fails, the old one is kept. What a
handler prints takes the same way: a daemon's stdout and stderr are that file, too.
Where stderr is systemd's journal, lines become entries of it (`journal.py`).
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from supervisor.config.schema import LogConfig
from supervisor.errors import StateError
from supervisor.journal import JournalTarget, is_journal

STDERR = "-"
_STDERR_FD = 2
_STANDARD_FDS = (1, _STDERR_FD)
_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_FILE_MODE = 0o640


def open_target(config: LogConfig) -> Target | JournalTarget:
    """Where the lines of `[log]` go. Raises StateError if the file cannot be opened."""
    if config.file == STDERR and config.format == "auto" and is_journal(os.environ.get("JOURNAL_STREAM", "")):
        return JournalTarget()
    return Target(config.file)


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
        self._identity = _identity(self._fd)

    def is_terminal(self) -> bool:
        """Whether a person reads it."""
        return os.isatty(self._fd)

    def write(self, line: str) -> None:
        """Write one line whole. Raises OSError; a line cut off by it is ended before the next one begins."""
        self.follow()
        data = (b"\n" if self._torn else b"") + line.encode(errors="backslashreplace") + b"\n"
        written = os.write(self._fd, data)
        while written < len(data):
            self._torn = True
            written += os.write(self._fd, data[written:])
        self._torn = False

    def close(self) -> None:
        """Close the file; stderr stays open."""
        if self._path and _identity(self._fd) == self._identity:
            os.close(self._fd)

    def follow(self) -> None:
        """Open the file anew where it was moved away; a stdout or stderr that goes to the same file goes along.

        Likewise where user code has closed our descriptor; one that it has opened since under that number is its own.
        """
        if not self._path:
            return
        held = _identity(self._fd) == self._identity
        with suppress(OSError):
            there = Path(self._path).stat()
            if held and (there.st_dev, there.st_ino) == self._identity:
                return
        with suppress(OSError):
            fresh = os.open(self._path, _FILE_FLAGS, _FILE_MODE)
            for standard in _STANDARD_FDS:
                if _identity(standard) == self._identity:
                    os.dup2(fresh, standard)
            if held:
                os.close(self._fd)
            self._fd, self._identity, self._torn = fresh, _identity(fresh), False


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Device and inode of an open file; None for a closed descriptor."""
    with suppress(OSError):
        opened = os.fstat(descriptor)
        return opened.st_dev, opened.st_ino
    return None


class LineHandler(logging.Handler):
    """Gives formatted records to a target; nothing that goes wrong on the way leaves it."""

    def __init__(self, target: Target | JournalTarget, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._target = target
        self._lost = 0
        self._reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line, after telling of lines lost before it."""
        line = self._line(record)
        try:
            if self._lost:
                self._target.write(self.format(self._loss()))
                self._lost = 0
            self._target.write(line)
        except OSError as error:
            self._lost += 1
            self._reason = error.strerror or str(error)

    def follow(self) -> None:
        """Let the target look whether its file was moved, though there is nothing to write."""
        if isinstance(self._target, Target):
            self._target.follow()

    def forget_losses(self) -> None:
        """In a fork: whoever lost lines before it tells of them."""
        self._lost = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it; a filter of user code that raises holds nothing back."""
        try:
            return super().filter(record)
        except Exception:  # noqa: BLE001  (user code; its failure must not become that of whoever logs)
            return True

    def let_go(self) -> None:
        """Close the target. `close` leaves it open: user code calls that too, through dictConfig and shutdown."""
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
