"""A timer of the kernel that kills its own process (timer_create(2): SIGEV_SIGNAL, SIGKILL, CLOCK_BOOTTIME). Used by
workers.

It needs no Python, no other process and no running process: one that is stopped (SIGSTOP), frozen or suspended dies of
it, too, and runs no instruction more. A child of fork(2) does not inherit it, execve(2) deletes it.
"""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress
from signal import SIGKILL

_SIGEV_SIGNAL = 0
_TIMER_ABSTIME = 1
_NS = 1_000_000_000


class _Sigevent(ctypes.Structure):
    """struct sigevent (sigevent(3type)); the C library's has 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


_Itimerspec = ctypes.c_long * 4
"""struct itimerspec: seconds and nanoseconds of the interval, then of the value."""


def _library() -> ctypes.CDLL | None:
    """The C library that has the calls (before glibc 2.34 that is librt), with them looked up; None without one."""
    for name in (None, "librt.so.1"):
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(name, use_errno=True)
            _known = library.timer_create
            return library
    return None


def _calls(library: ctypes.CDLL | None) -> ctypes.PyDLL | None:
    """The calls of each run. They keep the interpreter lock: to release it takes longer than the call, and no thread
    may come between."""
    if library is None:
        return None
    calls = ctypes.PyDLL(library._name)
    _known = calls.timer_settime, calls.timer_delete
    return calls


_LIBRARY = _library()
_CALLS = _calls(_LIBRARY)
"""Looked up at import, in the forkserver: in a worker each function of ctypes would cost pages of its own."""


class KillTimer:
    """The timer of the process that calls `open`; without it, `set` does nothing."""

    def __init__(self) -> None:
        self.is_open = False
        self._id: ctypes.c_void_p | None = None
        self._value = _Itimerspec()
        self._at = ctypes.byref(self._value)

    def open(self) -> None:
        """Make the timer. Raises OSError if the kernel, or a limit (RLIMIT_SIGPENDING), does not allow it."""
        if _LIBRARY is None or _CALLS is None:
            raise OSError("the C library has no timer_create")
        made = ctypes.c_void_p()
        event = _Sigevent(signo=SIGKILL, notify=_SIGEV_SIGNAL)
        if _LIBRARY.timer_create(time.CLOCK_BOOTTIME, ctypes.byref(event), ctypes.byref(made)):
            error = ctypes.get_errno()
            raise OSError(error, f"timer_create: {os.strerror(error)}")
        self._settime = _CALLS.timer_settime
        self._id, self.is_open = made, True

    def set(self, at_s: float) -> None:
        """Kill this process at `at_s` (CLOCK_BOOTTIME), now if that is past; 0: never. It replaces what was set."""
        if self._id is not None:
            self._value[2], self._value[3] = int(at_s), int(at_s % 1.0 * _NS)
            self._settime(self._id, _TIMER_ABSTIME, self._at, None)

    def close(self) -> None:
        """Delete the timer."""
        made, self._id, self.is_open = self._id, None, False
        if made is not None and _CALLS is not None:
            _CALLS.timer_delete(made)


def shortcoming() -> str:
    """A sentence for a machine that gives this process no such timer; "" where it does."""
    timer = KillTimer()
    try:
        timer.open()
    except OSError as error:
        return (
            f"the kernel gives no timer that ends a run ({error}): the run of a daemon that is stopped (SIGSTOP) goes "
            "on late when that is continued; allow one pending signal for each worker (RLIMIT_SIGPENDING)"
        )
    timer.close()
    return ""
