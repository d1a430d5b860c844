"""The stop request of a worker, by SIGTERM. The signal handler only stores it; the loop acts between two messages.

Runs in workers. SIGTERM, which the kernel also sends when the master is gone, means: finish the message and exit. It
must wake an idle worker without a race: CPython's C handler writes to a pipe (signal.set_wakeup_fd, a self-pipe).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` calls, before it makes enums: quicker, and fewer pages
import os
import signal
from contextlib import suppress
from os import pipe2, read
from types import FrameType

from supervisor.system import posix

_IGNORED = frozenset({signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ})
"""Signals of the terminal, meant for the master, and those that Python turns into exceptions of system calls."""

_ACTIONS = tuple(
    (int(number), int(signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL))
    for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
)
"""(signal, its disposition in a new worker)."""

_SIGTERM = int(signal.SIGTERM)
_ALWAYS = frozenset({*map(int, _IGNORED), _SIGTERM, int(signal.SIGALRM)})
"""Always set: Python does not see changes by C code."""


def reset_signals() -> None:
    """Reset all signals to the dispositions of a new worker, unblock them, stop the timers of user code."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for timer in (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
        _signal.setitimer(timer, 0)
    for number, wanted in _ACTIONS:
        if number in _ALWAYS or _signal.getsignal(number) != wanted:
            _signal.signal(number, wanted)


class Requests:
    """Made once, in the worker. `stop`: the worker must exit."""

    def __init__(self) -> None:
        self.stop = False
        ends = pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_read, self._wake_write = map(posix.move_up, ends)
        self._on_stop = self._asked  # one object, to compare with the installed handler

    def fileno(self) -> int:
        """Readable after any signal; for a poll object."""
        return self._wake_read

    def listen(self) -> None:
        """Reset the signals set by the forkserver and by user code in it; install the worker's own handler."""
        reset_signals()
        self.take_back()
        os.register_at_fork(after_in_child=self._release)

    def take_back(self) -> None:
        """Install handler and pipe again if user code (an event loop) has replaced them."""
        if _signal.getsignal(_SIGTERM) is not self._on_stop:
            _signal.signal(_SIGTERM, self._on_stop)
        with suppress(OSError, ValueError):  # user code has closed the pipe
            _signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def drain(self) -> None:
        """Empty the pipe; `stop` stays."""
        with suppress(OSError):  # nothing to read; or user code has closed it
            read(self._wake_read, 4096)

    def _asked(self, signum: int, frame: FrameType | None) -> None:
        self.stop = True

    def _release(self) -> None:
        """Restore SIGTERM and SIGINT in a child that a handler has forked, so that they end it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
