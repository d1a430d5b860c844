"""State of its process that user code can change: one table, with the action of preforkd for each row.

Used by forkservers (after the import) and workers (after `init`, and between runs). State that preforkd itself needs,
and state by which one run could fail the next one, is put back (`KEPT`); the rest is user code's own (`LEFT`). Names
are bound here at once: a handler that replaces `os.setresuid` must not replace it for us.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` calls, before it makes enums
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from os import chdir, getcwd, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid, stat, umask
from sys import getrecursionlimit
from typing import Any, NamedTuple

_DEPTH = 1000  # Python's own; more is user code's affair
_NONE_OF_THEM: tuple[int, ...] = ()


class DelayedNotices(NamedTuple):
    """One thing that is put back. `read`: what it is now; `put_back` raises where that is not possible any more.

    `lasting`: what the import or `init` sets counts for every later run; else preforkd's own counts always.
    """

    name: str
    read: Callable[[], Any]
    put_back: Callable[[Any], object]
    lasting: bool = True


def _actions() -> tuple[Any, ...]:
    return tuple(map(_signal.getsignal, _OURS))


def _put_actions_back(former: Sequence[Any]) -> None:
    for number, action in zip(_OURS, former, strict=True):
        if _signal.getsignal(number) is not action:
            _signal.signal(number, action)


_OURS = tuple(map(int, (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM)))
"""Signals that decide whether preforkd's own code goes on."""


def _timers() -> tuple[bool, ...]:
    return tuple(_signal.getitimer(which)[0] > 0 for which in (_signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF))


def _put_timers_back(former: Sequence[bool]) -> None:
    """One that is new is stopped; one that user code has stopped, or moved, is its own."""
    for which, ran in zip((_signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF), former, strict=True):
        if not ran:
            _signal.setitimer(which, 0)


def _low_depth() -> int:
    depth = getrecursionlimit()
    return depth if depth < _DEPTH else _DEPTH  # min may be patched


def _directory() -> str:
    with suppress(OSError):  # it was deleted
        return getcwd()  # noqa: PTH109  (pathlib's may be patched; see the head)
    return ""


def _mode_mask() -> int:
    mask = umask(0o077)
    umask(mask)
    return mask


def _users() -> tuple[Any, ...]:
    return getresuid(), getresgid(), getgroups()


def _put_users_back(former: Sequence[Any]) -> None:
    users, groups, more = former
    if getresuid() != users:
        setresuid(*users)
    if getresgid() != groups:
        setresgid(*groups)
    if getgroups() != more:
        setgroups(more)


def _root() -> tuple[int, int]:
    there = stat("/")  # noqa: PTH116  (as above)
    return there.st_dev, there.st_ino


def _no_way_back(former: object) -> None:
    raise PermissionError("there is no way back")


def _limit(name: str, which: int) -> DelayedNotices:
    put_back = partial(resource.setrlimit, which)
    return DelayedNotices(f"the resource limit {name}", partial(resource.getrlimit, which), put_back)


KEPT: tuple[DelayedNotices, ...] = (
    DelayedNotices(
        "the signal mask",
        partial(_signal.pthread_sigmask, _signal.SIG_BLOCK, _NONE_OF_THEM),
        partial(_signal.pthread_sigmask, _signal.SIG_SETMASK),
        lasting=False,
    ),
    DelayedNotices("what SIGTERM, SIGINT, SIGHUP, SIGPIPE and SIGXFSZ do", _actions, _put_actions_back, lasting=False),
    DelayedNotices("the timers of processor time", _timers, _put_timers_back),
    DelayedNotices("the trace function", sys.gettrace, sys.settrace),
    DelayedNotices("the profile function", sys.getprofile, sys.setprofile),
    DelayedNotices("a recursion limit that is too low", _low_depth, sys.setrecursionlimit, lasting=False),
    DelayedNotices("the root directory", _root, _no_way_back, lasting=False),
    DelayedNotices("user and groups", _users, _put_users_back),
    DelayedNotices("the working directory", _directory, chdir),
    DelayedNotices("the mask of file modes", _mode_mask, umask),
    _limit("AS", resource.RLIMIT_AS),
    _limit("CPU", resource.RLIMIT_CPU),
    _limit("DATA", resource.RLIMIT_DATA),
    _limit("FSIZE", resource.RLIMIT_FSIZE),
    _limit("NOFILE", resource.RLIMIT_NOFILE),
    _limit("NPROC", resource.RLIMIT_NPROC),
)
"""In this order: what stops our own code first, the root directory before what is found below it."""

LEFT: dict[str, str] = {
    "environment, sys.path, sys.modules": "what preforkd needs of them it has taken before the import",
    "locale, warnings filters, decimal context, random state, contextvars": "nothing of preforkd depends on them",
    "gc, switch interval": "tuning them is what an import or `init` may be for",
    "threads, threading.excepthook, sys.excepthook, asyncio policies, multiprocessing": "they are the handler's",
    "socket.setdefaulttimeout, patched modules": "preforkd calls what it has bound before the import",
    "nice, oom_score_adj, the name in ps, core size": "they decide nothing between two messages",
    "session and process group": "the master finds what a worker leaves behind by other ways, too",
    "atexit": "callbacks run when the worker leaves",
}
"""State that user code may change for good, and why."""


class ProcessState:
    """The values of the table's rows at the time this is made."""

    def __init__(self) -> None:
        self._former = [(kept, kept.read()) for kept in KEPT]

    def adopt(self) -> list[str]:
        """Take what user code has set for good (the import, `init`) as what is to be kept; put the rest back.

        The names of what cannot be put back.
        """
        lost = [kept.name for kept, former in self._former if not kept.lasting and not _restored(kept, former)]
        self._former = [(kept, kept.read() if kept.lasting else former) for kept, former in self._former]
        return lost

    def restore(self) -> list[str]:
        """Put everything back; the names of what cannot be."""
        return [kept.name for kept, former in self._former if not _restored(kept, former)]


def _restored(kept: DelayedNotices, former: Any) -> bool:
    try:
        if kept.read() != former:
            kept.put_back(former)
    except Exception:  # noqa: BLE001  (refused by the kernel; or an object of user code that cannot be compared)
        return False
    return True
