"""State of a process that user code can change: one table, with the action of preforkd for each row.

Used by forkservers (after the import) and workers (after `init`, and between runs). State that preforkd itself needs,
or that could make the next run fail, is restored (`KEPT`); the rest, listed in docs/handlers.md, belongs to user code.
Names are bound at import: a handler that replaces `os.setresuid` must not replace it for preforkd.
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
from types import ModuleType
from typing import Any, NamedTuple

_DEPTH = 1000  # Python's own; more is user code's affair
_NONE_OF_THEM: tuple[int, ...] = ()


class KeptState(NamedTuple):
    """One restored part of the state. `read`: its present value; `put_back` raises if the value cannot be restored.

    `lasting`: a value set by the import or `init` is kept for all later runs; otherwise preforkd's own is.
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
"""Signals that can interrupt preforkd's own code."""


def _timers() -> tuple[bool, ...]:
    return tuple(_signal.getitimer(which)[0] > 0 for which in (_signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF))


def _put_timers_back(former: Sequence[bool]) -> None:
    """Stop a timer that is new; one that user code has stopped or changed is left alone."""
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


def _limit(name: str) -> KeptState:
    which = getattr(resource, f"RLIMIT_{name}")
    read, put_back = partial(resource.getrlimit, which), partial(resource.setrlimit, which)
    return KeptState(f"the resource limit {name}", read, put_back)


KEPT: tuple[KeptState, ...] = (
    KeptState(
        "the signal mask",
        partial(_signal.pthread_sigmask, _signal.SIG_BLOCK, _NONE_OF_THEM),
        partial(_signal.pthread_sigmask, _signal.SIG_SETMASK),
        lasting=False,
    ),
    KeptState("what SIGTERM, SIGINT, SIGHUP, SIGPIPE and SIGXFSZ do", _actions, _put_actions_back, lasting=False),
    KeptState("the timers of processor time", _timers, _put_timers_back),
    KeptState("the trace function", sys.gettrace, sys.settrace),
    KeptState("the profile function", sys.getprofile, sys.setprofile),
    KeptState("a recursion limit that is too low", _low_depth, sys.setrecursionlimit, lasting=False),
    KeptState("the root directory", _root, _no_way_back, lasting=False),
    KeptState("user and groups", _users, _put_users_back),
    KeptState("the working directory", _directory, chdir),
    KeptState("the mask of file modes", _mode_mask, umask),
    *map(_limit, ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC")),
)
"""In order: state that interrupts preforkd's own code comes first, the root directory before paths below it."""


class ProcessState:
    """The values of the table's rows when this object is made."""

    def __init__(self) -> None:
        self._former = [(kept, kept.read()) for kept in KEPT]

    def adopt(self) -> list[str]:
        """Keep the `lasting` values that the import or `init` has set, and restore the others.

        Returns the names of the rows that cannot be restored.
        """
        lost = [kept.name for kept, former in self._former if not kept.lasting and not _restored(kept, former)]
        self._former = [(kept, kept.read() if kept.lasting else former) for kept, former in self._former]
        return lost

    def restore(self) -> list[str]:
        """Restore all rows; returns the names of those that cannot be restored."""
        return [kept.name for kept, former in self._former if not _restored(kept, former)]


def _restored(kept: KeptState, former: Any) -> bool:
    try:
        if kept.read() != former:
            kept.put_back(former)
    except Exception:  # noqa: BLE001  (refused by the kernel; or an object of user code that cannot be compared)
        return False
    return True


# ---- functions of Python -------------------------------------------------------------------------------------------

_MODULES = (
    *("builtins", "contextlib", "fcntl", "faulthandler", "gc", "inspect", "io", "json", "logging", "mmap", "msgspec"),
    *("msgspec.json", "msgspec.msgpack", "os", "pathlib", "select", "setproctitle", "signal", "socket", "struct"),
    *("sys", "threading", "time", "traceback", "types"),
)
_REPORTED = 5  # names in a reason
_MISSING = object()


class Replacements:
    """The names in modules used by preforkd when this object is made, before any user code has run.

    A handler may patch any module (`builtins.open`, gevent's `patch_all`), so normally nothing is restored. If
    preforkd's own code fails after user code has run, the process ends: the originals are restored first, so that
    reason and stack can be reported, and the reason names the replacements.
    """

    def __init__(self) -> None:
        modules = ((name, vars(sys.modules[name])) for name in _MODULES if name in sys.modules)
        self._former = [
            (name, now, {key: value for key, value in now.items() if _is_fixed(key, value)}) for name, now in modules
        ]

    def put_back(self) -> list[str]:
        """Restore all of them; returns the names of those that were replaced, such as `builtins.len`.

        It must call no builtin: that may be a replaced one.
        """
        replaced = []
        for module, now, former in self._former:
            for name, value in former.items():
                if now.get(name, _MISSING) is not value:
                    now[name] = value
                    replaced.append(f"{module}.{name}")
        return replaced


def _is_fixed(name: str, value: object) -> bool:
    """Whether a module never changes this name itself, unlike `sys.stdout` and `logging.lastResort`."""
    return callable(value) or name.isupper() or isinstance(value, ModuleType)


def blaming(reason: str, replaced: Sequence[str]) -> str:
    """The reason of a failure of preforkd, with the first of the names that user code had `replaced`."""
    if not replaced:
        return reason
    more = f" and {len(replaced) - _REPORTED} more" if len(replaced) > _REPORTED else ""
    return f"{reason}; user code had replaced {', '.join(replaced[:_REPORTED])}{more}"
