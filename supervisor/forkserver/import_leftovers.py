"""Leftovers of an import that make a fork unsafe: threads, sockets, timers. They are refused by name.

Runs in the forkserver, before and after the import. A thread does not survive a fork, though its locks do; workers that
share a socket mix up their data; the signal of a timer (timer_create(2)) would interrupt the forkserver.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from supervisor.config.schema import PoolConfig
from supervisor.errors import BootError
from supervisor.system.clock import monotonic_s

_THREADS_MAY_END_S = 1.0
_SELF = Path("/proc/self")
_OF_C = "a thread of C code (not a Python thread)"

_LIBRARIES = {
    "openblas": "OPENBLAS_NUM_THREADS",
    "libmkl": "MKL_NUM_THREADS",
    "libblis": "BLIS_NUM_THREADS",
    "libgomp": "OMP_NUM_THREADS",
    "libomp": "OMP_NUM_THREADS",
    "libiomp": "OMP_NUM_THREADS",
    "numexpr": "NUMEXPR_MAX_THREADS",
    "polars": "POLARS_MAX_THREADS",
    "libarrow": "ARROW_IO_THREADS",
}
"""Libraries that start threads by themselves: a part of the file's name, and the variable that limits them to one."""


class Found(NamedTuple):
    """Threads by native id, open sockets as (descriptor, `socket:[inode]`), the numbers of POSIX timers."""

    threads: dict[int, str]
    sockets: set[tuple[int, str]]
    timers: set[str]


def found() -> Found:
    """The present threads, sockets and timers."""
    return Found(_threads(), _sockets(), _timers())


def refuse(pool: PoolConfig, before: Found) -> None:
    """Raise BootError, with names and advice, if there are more threads, sockets or timers than `before`."""
    _refuse_threads(pool, before.threads)
    _refuse_sockets(pool, before.sockets)
    if _timers() - before.timers:
        raise BootError(
            f"pools.{pool.name}: importing {pool.handler!r} left a timer of timer_create(2) running; its signal would "
            "interrupt the process that forks workers. Start it in the pool's `init`"
        )


# ---- threads ------------------------------------------------------------------------------------------------------


def _threads() -> dict[int, str]:
    """Native id -> name of every thread of this process, those of C libraries included."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    own_name = (_SELF / "comm").read_text()
    threads: dict[int, str] = {}
    for task in (_SELF / "task").iterdir():
        with suppress(OSError):  # it has just ended
            number, name = int(task.name), (task / "comm").read_text()
            of_c = _OF_C if name == own_name else f"{name.strip()} (not a Python thread)"
            threads[number] = names.get(number) or of_c
    return threads


def _refuse_threads(pool: PoolConfig, before: dict[int, str]) -> None:
    until_s = monotonic_s() + _THREADS_MAY_END_S
    while (left := _threads().keys() - before.keys()) and monotonic_s() < until_s:
        _let_others_run()
    if not left:
        return
    counted = Counter(name for number, name in _threads().items() if number in left)
    names = ", ".join(f"{name} ({count} of them)" if count > 1 else name for name, count in sorted(counted.items()))
    raise BootError(
        f"pools.{pool.name}: importing {pool.handler!r} left threads running: {names}; threads do not survive the fork "
        f"of a worker. {_way_out(pool, _OF_C in counted)}"
    )


def _way_out(pool: PoolConfig, of_c: bool) -> str:
    libraries = _loaded_libraries() if of_c else {}
    if not libraries:
        return (
            "Start them in the pool's `init` (for numeric libraries set OPENBLAS_NUM_THREADS, OMP_NUM_THREADS or "
            "MKL_NUM_THREADS to 1 in the pool's `environment`)"
        )
    variables = ", ".join(f'{_LIBRARIES[part]} = "1"' for part in sorted(libraries, key=_LIBRARIES.__getitem__))
    files = ", ".join(sorted(libraries.values()))
    return f"These libraries start some: {files}; set {variables} in [pools.{pool.name}.environment]"


def _loaded_libraries() -> dict[str, str]:
    """The mapped libraries that are known to start threads: part of the name -> file."""
    with suppress(OSError):
        files = {line.rpartition("/")[2] for line in (_SELF / "maps").read_text().splitlines() if "/" in line}
        return {part: file for part in _LIBRARIES for file in sorted(files) if part in file}
    return {}


def _let_others_run() -> None:
    threading.Event().wait(0.01)


# ---- sockets and timers -------------------------------------------------------------------------------------------


def _timers() -> set[str]:
    """The timers made by timer_create(2); none if the kernel does not list them (CONFIG_CHECKPOINT_RESTORE)."""
    with suppress(OSError):
        return {line for line in (_SELF / "timers").read_text().splitlines() if line.startswith("ID:")}
    return set()


def _sockets() -> set[tuple[int, str]]:
    """Every open socket as (descriptor, `socket:[inode]`)."""
    sockets: set[tuple[int, str]] = set()
    for entry in (_SELF / "fd").iterdir():
        with suppress(OSError):  # the directory's own descriptor is closed again
            target = str(entry.readlink())
            if target.startswith("socket:"):
                sockets.add((int(entry.name), target))
    return sockets


def _refuse_sockets(pool: PoolConfig, before: set[tuple[int, str]]) -> None:
    left = sorted(_sockets() - before)
    if not left:
        return
    names = ", ".join(_socket_name(number) for number, _ in left)
    raise BootError(
        f"pools.{pool.name}: importing {pool.handler!r} left sockets open: {names}; all workers would share them. "
        "Open connections in the pool's `init`, which runs in every worker"
    )


def _socket_name(number: int) -> str:
    with socket.socket(fileno=os.dup(number)) as sock:
        family = sock.family.name if isinstance(sock.family, socket.AddressFamily) else str(sock.family)
        with suppress(OSError):
            return f"{family} to {sock.getpeername()}"
        return f"{family} at {sock.getsockname() or 'no address'}"
