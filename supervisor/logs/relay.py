"""The log relay: the only process that may wait for a reader of the log. A program of its own, started by the master.

stdout and stderr of the master and all its children are pipes that end here. The main thread always reads them at once.
One thread for each destination writes, and may block (a pipe that is not read, a stopped terminal, a disk that hangs).
The queue between them is bounded: lines beyond it are counted, and the loss is logged once writing works again. Only
the standard library is imported: the master starts the file by its path, without `site`
(docs/decisions/0009-log-relay.md).
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

CONTROL_FD, STDOUT_FD, STDERR_FD, FIRST_PIPE_FD = 0, 1, 2, 3
"""Descriptors at the start: orders of the master, the two real destinations, one or two pipes."""

LINE, STDOUT, STDERR = 0, 1, 2
"""The kinds of frames: a log line, or printed text."""

FINISH, FILE = b"finish", b"file "
"""Orders: write the queued lines and exit; write log lines to the file whose path follows."""

FRAME_BYTES = select.PIPE_BUF  # written atomically, never mixed with other writes (pipe(7))
HEAD = struct.Struct("<8sHIB")  # magic, bytes that follow, pid, kind and flags
MAGIC = b"\0\x1epfkd\x1e\0"
FIRST, MORE = 0x40, 0x80
QUEUE_BYTES = 4 * 1024**2
FINISH_S = 2.0

_KIND = 0x0F
_NEWLINE = 0x0A
_READ_BYTES = 256 * 1024
_TEXT_BYTES = 1024**2  # of one line that comes in several frames
_PARTIAL_BYTES = 64 * 1024
_PARTIAL_S = 0.3
_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FILE_MODE = 0o640
_EVENT = "log.lost"
_FAILED = "{} log line(s) before this one could not be written: {}"
_UNREAD = "{} lines were lost because {}"


class Pipe:
    """Splits the bytes of one pipe into the texts of frames, and raw text of programs that write no frames.

    Raw text has the kind `printed`; it is passed on in whole lines, or by `rest` after a pause.
    """

    def __init__(self, descriptor: int, printed: int) -> None:
        self.descriptor = descriptor
        self.partial = b""  # raw text without an end of line
        self._printed = printed
        self._data = b""
        self._begun: dict[tuple[int, int], bytearray] = {}

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The texts that `data` completes, each with its kind."""
        self._data += data
        while self._data:
            at = self._data.find(MAGIC)
            if at != 0:
                raw = self._data[:at] if at > 0 else self._data[: len(self._data) - _begins(self._data)]
                self._data = self._data[len(raw) :]
                yield from self._lines(raw)
                if at < 0:
                    return
            elif (taken := self._frame()) is None:
                return
            else:
                yield from taken

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """The raw text without an end of line."""
        rest, self.partial = self.partial, b""
        if rest:
            yield self._printed, rest

    def _lines(self, raw: bytes) -> Iterator[tuple[int, bytes]]:
        whole, newline, self.partial = (self.partial + raw).rpartition(b"\n")
        if newline:
            yield self._printed, whole + newline
        if len(self.partial) > _PARTIAL_BYTES:
            yield from self.rest()

    def _frame(self) -> list[tuple[int, bytes]] | None:
        """The text that the first frame completes, if any; None while the frame itself is incomplete."""
        if len(self._data) < HEAD.size:
            return None
        _magic, length, pid, flags = HEAD.unpack_from(self._data)
        end = HEAD.size + length
        if len(self._data) < end:
            return None
        payload, self._data = self._data[HEAD.size : end], self._data[end:]
        return self._joined(pid, flags, payload)

    def _joined(self, pid: int, flags: int, payload: bytes) -> list[tuple[int, bytes]]:
        key = (pid, flags & _KIND)
        if flags & FIRST:  # the writer of a former line without an end was killed, or gave it up
            self._begun.pop(key, None)
        if flags & FIRST and not flags & MORE:
            return [(key[1], payload)]
        if not flags & FIRST and key not in self._begun:
            return []
        text = self._begun.setdefault(key, bytearray())
        text += payload[: _TEXT_BYTES - len(text)]
        if flags & MORE:
            while len(self._begun) > 64:
                del self._begun[next(iter(self._begun))]
            return []
        del self._begun[key]
        return [(key[1], bytes(text) if text.endswith(b"\n") else bytes(text) + b"\n" * (key[1] == LINE))]


def _begins(data: bytes) -> int:
    """The number of bytes at the end of `data` that may begin a frame."""
    return next((size for size in range(len(MAGIC) - 1, 0, -1) if data.endswith(MAGIC[:size])), 0)


class Output:
    """One destination and the thread that writes there.

    `descriptor`: the destination; -1: open `path`. A file is opened again after it was moved (logrotate). `style`: the
    format of a loss, `json`, `console` or `plain`.
    """

    def __init__(self, descriptor: int, path: str, style: str) -> None:
        self.path = path
        self._descriptor = descriptor
        self._style = style
        self._queue: deque[bytes] = deque()
        self._bytes = 0  # queued or being written
        self._lost = 0  # for lack of room; below: after errors, used by the thread alone
        self._failed = 0
        self._reason = ""
        self._torn = False
        self._ends = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> None:
        """Queue `data`, or count its lines as lost if the queue is full."""
        with self._changed:
            if self._bytes + len(data) > QUEUE_BYTES:
                self._lost += data.count(b"\n") or 1
                return
            self._queue.append(data)
            self._bytes += len(data)
            self._changed.notify()

    def end(self) -> None:
        """End the thread once all queued data is written."""
        with self._changed:
            self._ends = True
            self._changed.notify()

    def wait(self, until_s: float) -> None:
        """Wait for the end of the thread, at most until `until_s` (CLOCK_MONOTONIC)."""
        self._thread.join(max(0.0, until_s - time.monotonic()))

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            if not self._failed or self._tell(self._failed, _FAILED.format(self._failed, self._reason)):
                self._failed = 0
                rest = self._written(batch)
            else:
                rest = batch
            self._failed += rest.count(b"\n")
            with self._changed:
                self._bytes -= len(batch)
                lost, self._lost = (0, self._lost) if rest else (self._lost, 0)
            if lost and not self._tell(lost, _UNREAD.format(lost, self._standstill())):
                self._failed += lost
        if self.path and self._descriptor >= 0:
            os.close(self._descriptor)

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._queue and not self._ends:
                self._changed.wait()
            batch = b"".join(self._queue)
            self._queue.clear()
            return batch or None

    def _written(self, data: bytes) -> bytes:
        """Write `data`, without a time limit. Returns the rest after an error, whose reason is kept."""
        rest = memoryview(b"\n" + data if self._torn else data)
        while rest:
            try:
                self._follow()
                count = os.write(self._descriptor, rest)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self._reason = error.strerror or str(error)
                return bytes(rest)
            else:
                self._torn = rest[count - 1] != _NEWLINE
                rest = rest[count:]
        return b""

    def _follow(self) -> None:
        """Open the file, if it is not open or was moved; if that fails the former one is kept."""
        if not self.path:
            return
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, _FILE_FLAGS, _FILE_MODE)
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), os.stat(self.path)):  # noqa: PTH116  (no pathlib here)
                return
        with suppress(OSError):
            fresh = os.open(self.path, _FILE_FLAGS, _FILE_MODE)
            os.close(self._descriptor)
            self._descriptor, self._torn = fresh, False

    def _standstill(self) -> str:
        with suppress(OSError):
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                return "the disk of the log wrote nothing for too long"
        return "the log was not read for too long"

    def _tell(self, lines: int, text: str) -> bool:
        told = f"{loss_line(self._style, text, lines, time.time())}\n"
        return not self._written(told.encode(errors="backslashreplace"))


def loss_line(style: str, text: str, lines: int, now_s: float) -> str:
    """A line that reports a loss of so many `lines`. `style`: as of Output; `now_s`: wall clock."""
    if style == "plain":
        return f"preforkd: {text}"
    milliseconds = f"{now_s % 1:.3f}"[1:]
    if style == "console":
        clock = time.strftime("%H:%M:%S", time.localtime(now_s)) + milliseconds
        return f"{clock} warning log relay[{os.getpid()}] {_EVENT}: {text}  lines={lines}"
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s)) + milliseconds + "Z"
    head = {"at": at, "level": "warning", "event": _EVENT, "message": text}
    return json.dumps({**head, "process": "log relay", "pid": os.getpid(), "lines": lines})


class Relay:
    """`pipes`: one descriptor, or those of stdout and stderr; `style`: of an Output; `file`: the log, "-": stderr."""

    def __init__(self, pipes: list[int], style: str, file: str) -> None:
        self._pipes = [Pipe(number, kind) for number, kind in zip(pipes, (STDOUT, STDERR), strict=False)]
        self._style = style
        self._finish = self._orphaned = False
        self._poll = select.poll()
        for pipe in self._pipes:
            os.set_blocking(pipe.descriptor, False)
            self._poll.register(pipe.descriptor, select.POLLIN)
        self._poll.register(CONTROL_FD, select.POLLIN)
        lines = self._file(file) if file != "-" else None
        stderr = lines if lines and _same(STDERR_FD, file) else Output(STDERR_FD, "", "plain" if lines else style)
        shared = len(pipes) == 1
        stdout = stderr if shared else Output(STDOUT_FD, "", "plain")
        self._outputs = {STDOUT: stdout, STDERR: stderr, LINE: lines or stderr}

    def run(self) -> None:
        """Relay until the order to finish, or until the master and all other writers are gone."""
        while not self._finish and (self._pipes or not self._orphaned):
            partial = any(pipe.partial for pipe in self._pipes)
            ready = self._poll.poll(_PARTIAL_S * 1000 if partial else None)
            if not ready:
                self._flush_partial()
            for descriptor, _events in ready:
                if descriptor == CONTROL_FD:
                    self._obey()
            for pipe in [pipe for pipe in self._pipes if any(number == pipe.descriptor for number, _ in ready)]:
                self._read(pipe)
        for pipe in list(self._pipes):
            while self._read(pipe):
                pass
        self._flush_partial()
        until_s = time.monotonic() + FINISH_S
        outputs = {id(output): output for output in self._outputs.values()}
        for output in outputs.values():
            output.end()
        for output in outputs.values():
            output.wait(until_s)

    def _read(self, pipe: Pipe) -> bool:
        """Read the pipe once; False if it is empty or closed."""
        try:
            data = os.read(pipe.descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        for kind, text in pipe.feed(data):
            self._outputs.get(kind, self._outputs[STDERR]).put(text)
        if not data and pipe in self._pipes:
            self._poll.unregister(pipe.descriptor)
            self._give(pipe)
            self._pipes.remove(pipe)
        return bool(data)

    def _flush_partial(self) -> None:
        for pipe in self._pipes:
            self._give(pipe)

    def _give(self, pipe: Pipe) -> None:
        for kind, text in pipe.rest():
            self._outputs[kind].put(text)

    def _obey(self) -> None:
        order = os.read(CONTROL_FD, _READ_BYTES)
        if order == FINISH:
            self._finish = True
        elif order.startswith(FILE):
            self._redirect(os.fsdecode(order.removeprefix(FILE)))
        elif not order:  # the master was killed: its workers finish their runs, and may log
            self._poll.unregister(CONTROL_FD)
            self._orphaned = True

    def _redirect(self, file: str) -> None:
        former, stderr = self._outputs[LINE], self._outputs[STDERR]
        if file == (former.path or "-"):
            return
        self._outputs[LINE] = self._file(file) if file != "-" else stderr
        if former not in self._outputs.values():
            former.end()

    def _file(self, path: str) -> Output:
        return Output(-1, path, "json" if self._style == "plain" else self._style)


def _same(descriptor: int, path: str) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116  (no pathlib here)
    return False


def main(argv: list[str]) -> None:
    """Run with `relay.py PIPES STYLE FILE`: the number of pipes, the format of a loss, the log file."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)  # it ends only once no process can write any more
    with suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write("preforkd-log")
    pipes = int(argv[1])
    os.closerange(FIRST_PIPE_FD + pipes, os.sysconf("SC_OPEN_MAX"))
    Relay([FIRST_PIPE_FD + at for at in range(pipes)], argv[2], argv[3]).run()
    os._exit(0)  # a thread may be blocked in write(2)


if __name__ == "__main__":
    main(sys.argv)
