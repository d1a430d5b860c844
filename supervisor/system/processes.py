"""Facts about a process that psutil reads from /proc: private memory, command line, user.

Imported by the master, and by others only where they need one of these: psutil takes 2 MiB and some milliseconds
(docs/decisions/0014-page-faults.md). Facts that are read for each message or each child are in `posix.py`.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil

from supervisor.system import posix

_UNKNOWN = (psutil.Error, OSError)
"""The process is gone, or hidden (hidepid), or this process has no free descriptor."""


def private_bytes(pid: int) -> int:
    """The private memory (USS) of a process, without the pages shared with its forkserver; 0 if it is not known."""
    with suppress(*_UNKNOWN, AttributeError):  # a kernel without CONFIG_PROC_PAGE_MONITOR: a result without `uss`
        return int(psutil.Process(pid).memory_full_info().uss)
    return 0


def exceeds_memory(pid: int, limit_bytes: int) -> bool:
    """Whether a process has more private memory than `limit_bytes` (0: no limit).

    The kernel walks all page tables for that figure, so the resident size is read first: cheap and never smaller.
    """
    return limit_bytes > 0 and posix.usage(pid).rss_bytes > limit_bytes and private_bytes(pid) > limit_bytes


def command_line(pid: int) -> str:
    """The title or command line of a process, else its name; "" if it is not known. Always valid UTF-8."""
    with suppress(*_UNKNOWN):
        process = psutil.Process(pid)
        text = " ".join(process.cmdline()).strip() or process.name()
        return text.encode(errors="replace").decode()  # psutil has lone surrogates for other bytes
    return ""


def real_uid(pid: int) -> int | None:
    """The real uid of a process; None if it is not known. Files in /proc belong to root for one without cores."""
    with suppress(*_UNKNOWN):
        return int(psutil.Process(pid).uids().real)
    return None


def end(pid: int, title: str, within_s: float) -> bool:
    """Kill the process with this pid and `title`, and wait for its end; False if it is another, or does not end."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if command_line(pid) != title:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return posix.readable(descriptor, within_s)
    except OSError:
        return False
    finally:
        os.close(descriptor)
