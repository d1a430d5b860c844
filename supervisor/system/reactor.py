"""An epoll loop over descriptors, timers and signals; used by the master, the consumer and the command line.

It is small: `poll()` is one pass, so that each process has its own readable `turn()`. Its methods and READ/WRITE/ERROR
values are those that pika's SelectConnection requires of a custom I/O loop
(`pika.adapters.select_connection.AbstractSelectorIOLoop` in pika 1.4), so that AMQP joins the same loop.
An exception in a callback is raised by `poll()` after all others of the pass have run; the reactor stays usable.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import signal
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Protocol

from supervisor.system.clock import monotonic_s

Callback = Callable[[], object]
Handler = Callable[[int, int], object]
CallLater = Callable[[float, Callback], object]
"""`(delay_s, callback)`: call once after that time."""


class HasFileno(Protocol):
    """An object with a descriptor."""

    def fileno(self) -> int: ...


class Timer:
    """A pending call: made by `call_later`, cancelled by `remove_timeout`."""

    __slots__ = ("callback", "due_s")

    def __init__(self, due_s: float, callback: Callback) -> None:
        self.due_s = due_s
        self.callback: Callback | None = callback


class Reactor:
    """An epoll loop with timers. Only `add_callback` is thread-safe: pika resolves names in a thread."""

    READ = select.EPOLLIN
    WRITE = select.EPOLLOUT
    ERROR = select.EPOLLERR

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: deque[Callback] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.add_handler(self._wake_read, self._drain_wake, self.READ)

    # ---- descriptors ----------------------------------------------------------------------------------------------

    def add_handler(self, fd: int | HasFileno, handler: Handler, events: int) -> None:
        """Call `handler(fd, events)` whenever one of `events` (READ, WRITE, ERROR) occurs on `fd`."""
        number = _number(fd)
        self._handlers[number] = handler
        self._epoll.register(number, events)

    def update_handler(self, fd: int | HasFileno, events: int) -> None:
        """Wait for other `events` on a known descriptor. Raises ValueError for 0: epoll would spin on a hang-up."""
        if events == 0:
            raise ValueError("no events to wait for: use remove_handler")
        self._epoll.modify(_number(fd), events)

    def remove_handler(self, fd: int | HasFileno) -> None:
        """Stop watching a descriptor; must be called before it is closed."""
        number = _number(fd)
        if self._handlers.pop(number, None) is not None:
            self._epoll.unregister(number)

    # ---- time -----------------------------------------------------------------------------------------------------

    def call_later(self, delay: float, callback: Callback) -> Timer:
        """Call `callback()` once, `delay` seconds from now."""
        timer = Timer(monotonic_s() + max(0.0, delay), callback)
        heapq.heappush(self._timers, (timer.due_s, next(self._order), timer))
        return timer

    def remove_timeout(self, timer: Timer) -> None:
        """Cancel a timer; one that has fired is ignored."""
        timer.callback = None

    def add_callback(self, callback: Callback) -> None:
        """Call `callback()` in the next pass; may be called from another thread."""
        self._soon.append(callback)
        with suppress(OSError):  # the pipe is full: the loop is awake already
            os.write(self._wake_write, b"\0")

    # ---- running --------------------------------------------------------------------------------------------------

    def poll(self, timeout_s: float | None = None) -> None:
        """One pass: wait for events at most `timeout_s` (None: without limit), then run handlers and due timers.

        Raises the first exception of a callback, after all others have run.
        """
        failed: list[Exception] = []
        for fd, events in self._epoll.poll(self._wait_s(timeout_s)):
            handler = self._handlers.get(fd)
            if handler is not None:
                seen = self.READ | self.ERROR if events & select.EPOLLHUP else events
                _call(failed, handler, fd, seen)
        self._run_due(failed)
        for _ in range(len(self._soon)):
            _call(failed, self._soon.popleft())
        if failed:
            raise failed[0]

    def disown(self) -> None:
        """Close all watched files without a word to their peers, in a fork of the process whose files they are.

        /dev/null takes their numbers, so that owners which close these later close nothing else. The epoll instance is
        shared with the parent, and nothing is taken out of it. Raises OSError where no descriptor is free.
        """
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in self._handlers.keys() - {self._wake_read}:
            os.dup2(null, number, inheritable=False)
        os.close(null)

    def close(self) -> None:
        """Close the reactor's own descriptors."""
        self._epoll.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def start(self) -> None:
        """Part of pika's interface. Raises NotImplementedError: each process has its own loop."""
        raise NotImplementedError("run the loop with poll()")

    def stop(self) -> None:
        """Part of pika's interface; there is no inner loop to stop."""

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _wait_s(self, timeout_s: float | None) -> float | None:
        if self._soon:
            return 0.0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return timeout_s
        due_in_s = max(0.0, self._timers[0][0] - monotonic_s())
        return due_in_s if timeout_s is None else min(due_in_s, timeout_s)

    def _run_due(self, failed: list[Exception]) -> None:
        now_s = monotonic_s()
        while self._timers and self._timers[0][0] <= now_s:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                _call(failed, callback)

    def _drain_wake(self, fd: int, events: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 4096)


class Watch:
    """What the owner of one descriptor waits for: READ, WRITE, both, or nothing (0)."""

    def __init__(self, reactor: Reactor, fd: int, handler: Handler, events: int = 0) -> None:
        """Watch the open descriptor `fd` for `events`; `handler(fd, events)` is called when one of them occurs."""
        self.events = 0
        self._reactor = reactor
        self._fd = fd
        self._handler = handler
        self.want(events)

    def want(self, events: int) -> None:
        """Wait for other `events`. For nothing it is not registered: epoll would spin on a hang-up."""
        if events == self.events:
            return
        if not events:
            self._reactor.remove_handler(self._fd)
        elif self.events:
            self._reactor.update_handler(self._fd, events)
        else:
            self._reactor.add_handler(self._fd, self._handler, events)
        self.events = events


class StoredSignals:
    """Signals that a handler only stores and a loop acts upon. Installed by the constructor, removed by `close()`.

    Python's wake-up descriptor (signal.set_wakeup_fd, a self-pipe) ends the loop's wait. A list holds the signals, so
    that a full pipe loses none.
    `requests`: signals that are stored; `wakes`: signals that only end the loop's wait.
    """

    def __init__(self, reactor: Reactor, requests: Iterable[int], wakes: Iterable[int] = ()) -> None:
        self._reactor = reactor
        self._requests = frozenset(requests)
        self._arrived: list[int] = []
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        reactor.add_handler(self._read, self._drain, reactor.READ)
        self._former = {number: signal.signal(number, self._store) for number in (*self._requests, *wakes)}

    def take(self) -> list[int]:
        """The requests since the last call, oldest first, each as often as it came."""
        taken, self._arrived = self._arrived, []
        return taken

    def close(self) -> None:
        """Restore the handlers and the wake-up descriptor that were there before."""
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python
        signal.set_wakeup_fd(self._former_wakeup)
        self._reactor.remove_handler(self._read)
        for descriptor in (self._read, self._write):
            os.close(descriptor)

    def _store(self, number: int, frame: FrameType | None) -> None:
        if number in self._requests:
            self._arrived.append(number)

    def _drain(self, fd: int, events: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 4096)


def _call(failed: list[Exception], callback: Callable[..., object], *arguments: int) -> None:
    """Collect an exception: a callback that always fails must not stop the others, and the timers."""
    try:
        callback(*arguments)
    except Exception as error:  # noqa: BLE001  (raised again at the end of the pass)
        failed.append(error)


def _number(fd: int | HasFileno) -> int:
    return fd if isinstance(fd, int) else fd.fileno()
