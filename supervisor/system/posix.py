"""Linux calls that Python's standard library does not offer, and facts from /proc. No state, no policy."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import cache
from os import close, getpid, getppid, read
from os import open as open_file
from pathlib import Path
from select import POLLIN
from select import poll as new_poll  # bound before user code can replace it
from typing import NamedTuple

import setproctitle

_libc = ctypes.CDLL(None, use_errno=True)

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STAT_BYTES = 4096  # far more than the 52 numbers of proc_pid_stat(5) take
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_HIGH_DESCRIPTOR = 900  # below the usual limit of 1024

_PF_EXITING = 0x4  # of the flags, field 9: it is inside exit(2)
_SIGKILL_BIT = 1 << (signal.SIGKILL - 1)  # of the pending signals, field 31

_TFD_NONBLOCK, _TFD_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, value, 0, 0, 0))


def die_with_parent(signum: int, parent_pid: int) -> bool:
    """Request `signum` for the parent's death (prctl(2) PR_SET_PDEATHSIG); False if `parent_pid` is gone already.

    A change of user clears the request, so it must be repeated after one. Raises OSError.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)
    return getppid() == parent_pid


def outlive_parent() -> None:
    """Cancel `die_with_parent`. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def become_subreaper(wanted: bool = True) -> None:
    """Make this process the parent of its orphaned descendants (prctl(2) PR_SET_CHILD_SUBREAPER), or no longer.

    Raises OSError.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, int(wanted))


def forbid_core_and_ptrace() -> None:
    """Protect secrets in memory from core dumps and ptrace by the same user (PR_SET_DUMPABLE 0). Raises OSError."""
    _prctl(_PR_SET_DUMPABLE, 0)


def move_up(descriptor: int) -> int:
    """Move `descriptor` to a high number (F_DUPFD_CLOEXEC) if the limit allows one; returns the new number.

    The kernel uses the lowest free number: if user code closes a high one, no file of its own gets it.
    """
    try:
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH_DESCRIPTOR)
    except OSError:  # `ulimit -n` is lower than that
        return descriptor
    close(descriptor)
    return high


def identity(descriptor: int) -> tuple[int, int] | None:
    """Device and inode of the open file `descriptor`; None if it is closed."""
    with suppress(OSError):
        opened = os.fstat(descriptor)
        return opened.st_dev, opened.st_ino
    return None


def set_title(title: str) -> None:
    """Set the `title` of this process in `ps` and `top`, such as `preforkd: worker email/0`."""
    setproctitle.setproctitle(title)


def start_ticks(pid: int) -> int | None:
    """The start of a process in clock ticks since boot (field 22 of /proc/PID/stat); with its pid, its identity.

    None if the process is gone or /proc cannot be read.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def is_the_one(pid: int, ticks: int) -> bool | None:
    """Whether the process of this pid started at `ticks`; None if it exists and /proc cannot be read."""
    now = start_ticks(pid)
    if now is not None:
        return now == ticks
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    return None


def executes(pid: int) -> bool:
    """Whether a process can run code: it exists, and is neither stopped nor a zombie."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in (b"T", b"t", b"Z", b"X")


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP, a terminal, a debugger)."""
    fields = _stat(pid)
    return bool(fields) and fields[0] in (b"T", b"t")


def is_dying(pid: int) -> bool:
    """Whether a process will run no more code: it was killed and is not a zombie yet, or has ended."""
    fields = _stat(pid)
    return (
        not fields or bool(int(fields[6]) & _PF_EXITING or int(fields[28]) & _SIGKILL_BIT) or fields[0] in (b"Z", b"X")
    )


def is_child(pid: int) -> bool:
    """Whether a process or zombie is a child of this process, and so can be waited for."""
    fields = _stat(pid)
    return bool(fields) and int(fields[1]) == getpid()


def parent(pid: int) -> int:
    """The pid of a process's parent; 0 if the process is gone, or has none that can be seen here."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


class Usage(NamedTuple):
    """The use of a process: resident memory now, processor time since its start."""

    rss_bytes: int
    cpu_s: float


def usage(pid: int | None) -> Usage:
    """The use of a process; zeros if it is gone, or for None. Cheap: `status` reads it for a thousand processes."""
    fields = _stat(pid) if pid is not None else []
    if not fields:
        return Usage(0, 0.0)
    return Usage(int(fields[21]) * _PAGE_BYTES, (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)


def _stat(pid: int) -> list[bytes]:
    """Fields 3 and on of /proc/PID/stat (proc(5)); [] if there is no such process, or /proc cannot be read."""
    with suppress(OSError):
        file = open_file(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = read(file, _STAT_BYTES)
        finally:
            close(file)
        return stat[stat.rindex(b")") + 2 :].split()
    return []


@cache
def boot_id() -> str:
    """The kernel's random id of this boot. Raises OSError."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def own_children() -> list[int]:
    """The pids of this process's children, zombies included (/proc/PID/task/TID/children of its only thread).

    Without that file (CONFIG_PROC_CHILDREN, gVisor) all of /proc is read; [] if that fails, too.
    """
    with suppress(OSError):
        return [int(word) for word in _children_file().read_bytes().split()]
    with suppress(OSError):
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return [pid for pid in numbers if is_child(pid)]
    return []


def lists_children() -> bool:
    """Whether the kernel lists a process's children; otherwise all of /proc is read."""
    return _children_file().exists()


def _children_file() -> Path:
    pid = getpid()
    return Path(f"/proc/{pid}/task/{pid}/children")


class Delivery(Enum):
    """The result of a signal: sent, the process is gone, or it may not be signalled (EPERM)."""

    SENT = "sent"
    GONE = "gone"
    REFUSED = "refused"


def signal_process(pid: int, ticks: int, signum: int) -> Delivery:
    """Send `signum` to the process that started at `ticks` (0: not known). Never raises OSError.

    It uses a pidfd, so that a later process with this pid is never signalled. Without one (no free descriptor, no
    pidfd_open(2)) it uses kill(2), which is as safe for a child that was not reaped.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return Delivery.GONE
    except OSError:
        return _deliver(pid, ticks, lambda: os.kill(pid, signum))
    try:
        return _deliver(pid, ticks, lambda: signal.pidfd_send_signal(descriptor, signum))
    finally:
        close(descriptor)


def _deliver(pid: int, ticks: int, send: Callable[[], None]) -> Delivery:
    try:
        if ticks and start_ticks(pid) not in (ticks, None):
            return Delivery.GONE
        send()
    except ProcessLookupError:
        return Delivery.GONE
    except OSError:
        return Delivery.REFUSED
    return Delivery.SENT


def readable(descriptor: int, within_s: float) -> bool:
    """Whether `descriptor` is readable `within_s`. By poll(2): select(2) fails for descriptors above 1023."""
    poll = new_poll()
    poll.register(descriptor, POLLIN)
    return bool(poll.poll(within_s * 1000))


class _Itimerspec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "after_s", "after_ns"))


def new_timer(clock: int) -> int:
    """A descriptor that `set_timer` makes readable later, by `clock` (timerfd_create(2)). Raises OSError.

    Python has it since 3.13 (os.timerfd_create).
    """
    return _checked(_libc.timerfd_create(clock, _TFD_NONBLOCK | _TFD_CLOEXEC))


def set_timer(timer: int, delay_s: float | None) -> None:
    """Let `timer` be readable in `delay_s` and not before, whatever was set; at once if that is not positive.

    `delay_s`: None for never. Raises OSError.
    """
    after_ns = 0 if delay_s is None else max(1, round(delay_s * 1e9))
    after_s, rest_ns = divmod(after_ns, 10**9)
    value = _Itimerspec(0, 0, after_s, rest_ns)
    _checked(_libc.timerfd_settime(timer, 0, ctypes.byref(value), None))


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def signal_name(signum: int) -> str:
    """The name of signal `signum`: `SIGSEGV` for 11, `SIG40` for one without a name."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"SIG{signum}"
