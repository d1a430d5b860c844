"""Printed text as log lines: what user code writes to `sys.stdout` and `sys.stderr`, one record for each line.

Runs in forkservers and workers of a daemon; in `preforkd check` prints stay text. Writes to descriptors 1 and 2 are not
seen here. It must lose no line: a signal's handler may print in the middle of a print, which then takes that text
along, and the soft limit raises nothing below a frame of preforkd. What a log handler of the application writes is no
print: it is a finished line, goes on as text, and cannot come back here.
"""

from __future__ import annotations

import codecs
import io
import logging
import sys
from _thread import _local  # bound before user code can replace it: the greenlets of a thread share its text
from collections import deque
from collections.abc import Mapping
from os import getpid  # as above
from typing import TextIO
from weakref import ref

from supervisor.logs.pipe import relayed_text
from supervisor.logs.run_fields import run_fields
from supervisor.logs.structured import own_handlers

LINE_CHARACTERS = 32 * 1024
"""A longer line becomes several records."""

_LEVELS = {"stdout": logging.INFO, "stderr": logging.WARNING}
_NUMBERS = {"stdout": 1, "stderr": 2}
_HANDLE = logging.Handler.handle.__code__
_FRAMES = 50  # from a log handler to its write


class _Life:
    """Lives as long as its thread."""


class _ThreadText:
    """The text of one thread: `given` and not looked at yet, and the `rest` of each stream without an end of line."""

    def __init__(self, life: _Life) -> None:
        self.life = ref(life)
        self.given: deque[tuple[str, str]] = deque()
        self._rest = dict.fromkeys(_LEVELS, "")
        self._is_taking = False

    def take(self, below: Mapping[str, TextIO]) -> None:
        """Log the whole lines of what is given; nothing if this thread is doing it: then a signal's handler printed."""
        if self._is_taking:
            return
        self._is_taking = True
        try:
            while self.given:
                name, text = self.given.popleft()
                *lines, self._rest[name] = (self._rest[name] + text).split("\n")
                for line in lines:
                    _log(name, line, below)
                while len(self._rest[name]) > LINE_CHARACTERS:
                    line, self._rest[name] = self._rest[name][:LINE_CHARACTERS], self._rest[name][LINE_CHARACTERS:]
                    _log(name, line, below)
        finally:
            self._is_taking = False

    def end_lines(self, below: Mapping[str, TextIO]) -> None:
        """Log the lines that have no end."""
        self.given.extend((name, "\n") for name, rest in self._rest.items() if rest)
        self.take(below)


def _log(name: str, line: str, below: Mapping[str, TextIO]) -> None:
    """Log one line, in pieces if it is too long. Neither level nor loggers of user code can keep it out."""
    line = line.removesuffix("\r")
    handlers = own_handlers()
    for at in range(0, len(line), LINE_CHARACTERS):  # an empty line is none
        record = logging.LogRecord(name, _LEVELS[name], "", 0, line[at : at + LINE_CHARACTERS], None, None)
        run_fields.fill(record)
        for handler in handlers:
            handler.handle(record)
        if not handlers:  # user code has removed it, until the end of its run
            below[name].write(f"{record.msg}\n")


class _Prints:
    """Of the process, as `sys.stdout` itself is. `below`: streams that write text as it is."""

    def __init__(self) -> None:
        self._below: dict[str, TextIO] = {}
        self._threads: list[_ThreadText] = []
        self._own = _local()
        self._pid = getpid()

    def install(self) -> None:
        """Log what is printed in this process and its forks; nothing if stderr is not the pipe of a log relay."""
        below = relayed_text()
        if below is not None:
            sys.stdout.flush()
            self.replace(below)

    def replace(self, below: tuple[TextIO, TextIO]) -> None:
        """Replace `sys.stdout` and `sys.stderr`. `below`: streams for text that is no print."""
        self._below = dict(zip(_LEVELS, below, strict=True))
        sys.stdout, sys.stderr = PrintedText(self, "stdout"), PrintedText(self, "stderr")

    def write(self, name: str, text: str) -> None:
        """Take `text` of the stream `name`."""
        if _in_log_handler():
            self._below[name].write(text)
            return
        thread = self._own_text()
        if thread is None:
            self._own.life = life = _Life()
            self._own.text = thread = _ThreadText(life)
            self._threads.append(thread)
        thread.given.append((name, text))
        thread.take(self._below)

    def flush(self, name: str) -> None:
        """End the calling thread's line."""
        self._below[name].flush()
        thread = self._own_text()
        if thread is not None and not _in_log_handler():
            thread.end_lines(self._below)

    def end_run(self, leaving: bool = False) -> None:
        """End the line of the calling thread and those of threads that have ended; all lines if it is `leaving`."""
        if not self._threads:
            return
        own = self._own_text()
        for thread in list(self._threads):
            has_ended = thread.life() is None
            if has_ended:
                self._threads.remove(thread)
            if has_ended or leaving or thread is own:
                thread.end_lines(self._below)

    def _own_text(self) -> _ThreadText | None:
        """The text of the calling thread. A process that was forked does not have the lines that others had begun."""
        if self._pid != getpid():
            self._pid, self._threads, self._own = getpid(), [], _local()
        text: _ThreadText | None = getattr(self._own, "text", None)
        return text


prints = _Prints()


def _in_log_handler() -> bool:
    """Whether a handler of `logging` is at work in this thread."""
    frame = sys._getframe(2)
    for _ in range(_FRAMES):
        if frame.f_code is _HANDLE:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


# ---- the streams ----------------------------------------------------------------------------------------------------


class PrintedText(io.TextIOBase):
    """`sys.stdout` or `sys.stderr`, called `name`. It stays open: `close` only ends the line."""

    encoding = "utf-8"
    errors = "backslashreplace"
    mode = "w"
    line_buffering = True
    write_through = False

    def __init__(self, owner: _Prints, name: str) -> None:
        self._owner = owner
        self._stream = name
        self.name = f"<{name}>"
        self.buffer = PrintedBytes(self)

    def write(self, text: str) -> int:
        """Log the whole lines. Raises TypeError for a value that is no text."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._owner.write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """End the line of the calling thread: it is in the log then."""
        self._owner.flush(self._stream)

    def close(self) -> None:
        """End the line."""
        self.flush()

    def reconfigure(self, **_settings: object) -> None:
        """Nothing: lines are always text, and written at their end."""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        """The standard descriptor, for programs that user code starts."""
        return _NUMBERS[self._stream]


class PrintedBytes(io.BufferedIOBase):
    """The `buffer` of such a stream: takes bytes of UTF-8."""

    def __init__(self, text: PrintedText) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder(text.encoding)(text.errors)
        self.name, self.mode, self.raw = text.name, "wb", self

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Log the whole lines. Bytes of a character that is not complete wait for the others."""
        data = bytes(data)
        self._text.write(self._decoder.decode(data))
        return len(data)

    def flush(self) -> None:
        """As of the text."""
        self._text.flush()

    def close(self) -> None:
        """As of the text."""
        self._text.close()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._text.fileno()
