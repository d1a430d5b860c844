"""Hears the moments at which processes say that they can work: datagrams of apps/stamp.py, and preforkd's own log.

A datagram carries its speaker's clock. A log line is stamped here, when it was read, which is later by what it takes
to wake up: where preforkd is judged by its log, that is to its disadvantage.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from supervisor.system.clock import monotonic_s

GONE = "gone"
"""Said of a watched process that has ended."""

_TAIL_LINES = 50


class Stamp(NamedTuple):
    """`word` was said by `pid` at `at_ns` (CLOCK_MONOTONIC)."""

    word: str
    pid: int
    at_ns: int


class LogPipe:
    """preforkd's stderr: events of the log as stamps (`worker.ready` by the worker's pid), and the last lines."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self._unfinished = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def hear(self) -> list[Stamp]:
        """What was written since."""
        try:
            data = os.read(self.read_end, 1 << 16)
        except BlockingIOError:
            return []
        now_ns = time.monotonic_ns()
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        self._tail.extend(line.decode(errors="replace") for line in lines)
        records = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [Stamp(record["event"], record["pid"], now_ns) for record in records]

    def tail(self) -> str:
        """The end of the log, for an error."""
        return "\n".join(self._tail)

    def close(self) -> None:
        """Give back both ends."""
        os.close(self.read_end)
        os.close(self.write_end)


class Ears:
    """One receiver for all processes. `path`: where datagrams go."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stamps"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self.path))
        self._poll = select.poll()
        self._sources: dict[int, Callable[[], Iterable[Stamp]]] = {}
        self._watched: set[int] = set()
        self._add(self._socket.fileno(), self._datagrams)

    def listen_to(self, log: LogPipe) -> None:
        """Hear a preforkd, too."""
        self._add(log.read_end, log.hear)

    def watch(self, pid: int) -> None:
        """Hear from the kernel when this one ends: `GONE`, in the same way for all contestants (pidfd)."""
        descriptor = os.pidfd_open(pid)
        self._watched.add(descriptor)
        self._add(descriptor, partial(self._gone, descriptor, pid))

    def hear(self, timeout_s: float) -> list[Stamp]:
        """What was said; waits for something at most that long."""
        ready = self._poll.poll(max(0.0, timeout_s) * 1000)
        return [stamp for descriptor, _events in ready for stamp in self._sources[descriptor]()]

    def close(self) -> None:
        """Stop listening."""
        for descriptor in self._watched:
            os.close(descriptor)
        self._socket.close()
        self.path.unlink()

    def _add(self, descriptor: int, source: Callable[[], Iterable[Stamp]]) -> None:
        self._sources[descriptor] = source
        self._poll.register(descriptor, select.POLLIN)

    def _datagrams(self) -> Iterable[Stamp]:
        with suppress(BlockingIOError):
            while True:
                word, pid, at_ns = self._socket.recv(256).split()
                yield Stamp(word.decode(), int(pid), int(at_ns))

    def _gone(self, descriptor: int, pid: int) -> Iterable[Stamp]:
        del self._sources[descriptor]
        self._poll.unregister(descriptor)
        self._watched.remove(descriptor)
        os.close(descriptor)
        return [Stamp(GONE, pid, time.monotonic_ns())]


def until(hear: Callable[[float], object], met: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Hear until `met()`. Raises AssertionError, which names `what`, when it takes longer than `timeout_s`."""
    deadline_s = monotonic_s() + timeout_s
    while not met():
        left_s = deadline_s - monotonic_s()
        if left_s <= 0:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        hear(min(left_s, 1.0))
