"""Imports a pool's handler, and checks that workers can be forked after the import.

Runs once in the forkserver, before any fork, and in the child process of `preforkd check`. It must accept no thread, no
socket and no timer: a thread does not survive a fork, though its locks do; workers that share a socket mix up their
data; the signal of a timer (timer_create(2)) would interrupt the forkserver. All belong into the pool's `init`, which
runs in every worker.
"""

from __future__ import annotations

import difflib
import faulthandler
import importlib
import inspect
import logging
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from supervisor.api import Message
from supervisor.config.schema import PoolConfig
from supervisor.errors import BootError
from supervisor.middleware_methods import fault_of, has_async
from supervisor.own_names import conflict
from supervisor.system.clock import monotonic_s
from supervisor.system.stacks import reason_of

_THREADS_MAY_END_S = 1.0
_log = logging.getLogger("preforkd.forkserver")
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


@dataclass(frozen=True)
class Handlers:
    """The functions that a worker calls: `run` for every message, `init` once after its fork (None: none).

    `middleware`: each with its name, and the class or function that makes it; called once after `init`.
    """

    run: Callable[[Message], object]
    init: Callable[[], object] | None
    middleware: tuple[tuple[str, Callable[[], object]], ...] = ()


def import_handlers(pool: PoolConfig) -> Handlers:
    """Import the pool's handler, init hook and middleware, in its environment and with its path in front of sys.path.

    Changes this process permanently. Raises BootError if a worker could not run them or may not be forked any more;
    the error's `__cause__` is the exception of user code, if there was one.
    """
    os.environ.update(pool.environment)
    sys.path[:0] = pool.path
    threads, sockets, timers = _threads(), _sockets(), _timers()
    handlers = Handlers(
        run=_load(pool, "handler", pool.handler, Message(b"")),
        init=_load(pool, "init", pool.init) if pool.init else None,
        middleware=tuple((path, _load_middleware(pool, at, path)) for at, path in enumerate(pool.middleware)),
    )
    faulthandler.cancel_dump_traceback_later()  # its timer is a thread, and may be set to end the process
    _refuse_threads(pool, threads)
    _refuse_sockets(pool, sockets)
    _refuse_timers(pool, timers)
    return handlers


# ---- finding ------------------------------------------------------------------------------------------------------


def _load(pool: PoolConfig, key: str, path: str, *arguments: object) -> Callable[..., Any]:
    where = f"pools.{pool.name}.{key} = {path!r}"
    function: Callable[..., Any] = _found(where, path, pool)
    _check_callable(where, function, arguments)
    return function


def _load_middleware(pool: PoolConfig, at: int, path: str) -> Callable[[], object]:
    """The class, or a function without arguments that makes the middleware. Its methods are known for a class only."""
    where = f"pools.{pool.name}.middleware[{at}] = {path!r}"
    maker: Callable[[], object] = _found(where, path, pool)
    if inspect.isclass(maker):
        _check_arguments(where, maker, ())
        if fault := fault_of(maker):
            raise BootError(f"{where}: {fault}")
        if has_async(maker):
            importlib.import_module("asyncio")  # workers share its pages
    elif callable(maker):
        _check_callable(where, maker, ())
    else:
        raise BootError(f"{where}: is an object of type {type(maker).__name__}; name its class, or a function")
    return maker


def _found(where: str, path: str, pool: PoolConfig) -> Any:
    """The object named `path` in the configuration."""
    module_name, _, name = path.partition(":")
    if hidden := conflict(module_name, sys.path):
        _log.warning("%s: %s", where, hidden)
    return _find(where, _import(where, module_name, pool.path), name)


def _import(where: str, name: str, path: tuple[str, ...]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _import_failed(where, error) from error
        looked = ", ".join(map(_looked_in, path)) or "no `path` is set for this pool"
        hint = "name the module without .py" if name.endswith(".py") else "correct the name or set the pool's `path`"
        hint = conflict(name, sys.path) or hint
        raise BootError(
            f"{where}: there is no module {error.name!r} (looked in: {looked}; and in this Python's own path); {hint}"
        ) from error
    except SystemExit as error:
        raise BootError(
            f'{where}: importing it called exit({error.code!r}); guard its command line with if __name__ == "__main__"'
        ) from error
    except BaseException as error:  # any exception during the import is a failed boot
        raise _import_failed(where, error) from error


def _looked_in(folder: str) -> str:
    """A folder of `path`, with the reason why modules in it cannot be found."""
    if not os.path.lexists(folder):
        return f"{folder}, which does not exist"
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"{folder}, which uid {os.geteuid()} may not read"
    return folder


def _import_failed(where: str, error: BaseException) -> BootError:
    return BootError(f"{where}: importing it raised {reason_of(error)}")


def _find(where: str, module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise BootError(f"{where}: module {module.__name__!r} has no {name!r}{hint}")
        found = getattr(found, part)
    return found


def _check_callable(where: str, function: Any, arguments: tuple[object, ...]) -> None:
    if not callable(function):
        raise BootError(f"{where}: is not a function but of type {type(function).__name__}")
    lazy = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    if any(is_lazy(one) for is_lazy in lazy for one in (function, type(function).__call__)):
        raise BootError(
            f"{where}: is an async or generator function: calling it runs nothing, and every message would "
            "count as done; name a plain function (which may call asyncio.run)"
        )
    if inspect.isclass(function) and any("__call__" in vars(base) for base in function.__mro__):
        raise BootError(
            f"{where}: is a class whose objects are called: calling the class itself only makes an object, and every "
            "message would count as done; name a function, or an object of the class"
        )
    _check_arguments(where, function, arguments)


def _check_arguments(where: str, function: Any, arguments: tuple[object, ...]) -> None:
    with suppress(ValueError, TypeError):  # builtins and objects of C code may not tell their signature
        signature = inspect.signature(function)
        try:
            signature.bind(*arguments)
        except TypeError as error:
            given = "one argument, the message" if arguments else "no arguments"
            raise BootError(f"{where}: cannot be called with {given}: it takes {signature}") from error


# ---- leftovers ------------------------------------------------------------------------------------------------------


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
        threading.Event().wait(0.01)
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


def _timers() -> set[str]:
    """The timers made by timer_create(2); none if the kernel does not list them (CONFIG_CHECKPOINT_RESTORE)."""
    with suppress(OSError):
        return {line for line in (_SELF / "timers").read_text().splitlines() if line.startswith("ID:")}
    return set()


def _refuse_timers(pool: PoolConfig, before: set[str]) -> None:
    if _timers() - before:
        raise BootError(
            f"pools.{pool.name}: importing {pool.handler!r} left a timer of timer_create(2) running; its signal would "
            "interrupt the process that forks workers. Start it in the pool's `init`"
        )


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
