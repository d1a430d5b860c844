"""What the world asks of a worker by signal. The handler only stores; the loop acts, between two messages.

Runs in workers. SIGTERM, the kernel's word that the master is gone included, means: finish the message and leave. It
must wake an idle worker without a race, hence the pipe that CPython writes to from the signal itself.
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
"""The terminal's (they are for the master), and those that Python turns into exceptions of system calls."""

_ACTIONS = tuple(
    (int(number), int(signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL))
    for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
)
"""Signal → what a worker begins with."""

_SIGTERM = int(signal.SIGTERM)
_ALWAYS = frozenset({*map(int, _IGNORED), _SIGTERM, int(signal.SIGALRM)})
"""Python does not see changes of C code to these."""


def reset_signals() -> None:
    """Let all signals do what they do in a new worker, unblock them, stop the timers of user code."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for timer in (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
        _signal.setitimer(timer, 0)
    for number, wanted in _ACTIONS:
        if number in _ALWAYS or _signal.getsignal(number) != wanted:
            _signal.signal(number, wanted)


class Requests:
    """Made once, in the worker. `stop`: it was asked to leave."""

    def __init__(self) -> None:
        self.stop = False
        ends = pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_read, self._wake_write = map(posix.move_up, ends)
        self._on_stop = self._asked  # one object: to be compared with what is installed

    def fileno(self) -> int:
        """Readable after any signal; for a poll object."""
        return self._wake_read

    def listen(self) -> None:
        """Undo what the forkserver, and user code in it, did to signals; take those that are for us."""
        reset_signals()
        self.take_back()
        os.register_at_fork(after_in_child=self._release)

    def take_back(self) -> None:
        """Take signal and pipe again where a handler (an event loop in it) has taken them for itself."""
        if _signal.getsignal(_SIGTERM) is not self._on_stop:
            _signal.signal(_SIGTERM, self._on_stop)
        with suppress(OSError, ValueError):  # user code has closed the pipe
            _signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def drain(self) -> None:
        """Forget wake-ups; `stop` stays."""
        with suppress(OSError):  # nothing to read; or user code has closed it
            read(self._wake_read, 4096)

    def _asked(self, signum: int, frame: FrameType | None) -> None:
        self.stop = True

    def _release(self) -> None:
        """In a child that a handler forked: it must be possible to end it by SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
