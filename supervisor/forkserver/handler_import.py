"""Imports a pool's handler, and checks that workers can be forked after the import.

Runs once in the forkserver, before any fork, and in the child process of `preforkd check`. It must accept no thread and
no socket: a thread does not survive a fork, though its locks do, and workers that share a socket mix up their data.
Both belong into the pool's `init`, which runs in every worker.
"""

from __future__ import annotations

import difflib
import faulthandler
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from supervisor.api import Message
from supervisor.config.schema import PoolConfig
from supervisor.errors import BootError
from supervisor.forkserver import import_leftovers
from supervisor.system.stacks import reason_of


@dataclass(frozen=True)
class Handlers:
    """The functions that a worker calls: `run` for every message, `init` once after its fork (None: none)."""

    run: Callable[[Message], object]
    init: Callable[[], object] | None


def import_handlers(pool: PoolConfig) -> Handlers:
    """Import the pool's handler and init hook, in its environment and with its path in front of sys.path.

    Changes this process permanently. Raises BootError if a worker could not run them or may not be forked any more;
    the error's `__cause__` is the exception of user code, if there was one.
    """
    os.environ.update(pool.environment)
    sys.path[:0] = pool.path
    before = import_leftovers.found()
    handlers = Handlers(
        run=_load(pool, "handler", pool.handler, Message(b"")),
        init=_load(pool, "init", pool.init) if pool.init else None,
    )
    faulthandler.cancel_dump_traceback_later()  # its timer is a thread, and may be set to end the process
    import_leftovers.refuse(pool, before)
    return handlers


# ---- finding ------------------------------------------------------------------------------------------------------


def _load(pool: PoolConfig, key: str, path: str, *arguments: object) -> Callable[..., Any]:
    where = f"pools.{pool.name}.{key} = {path!r}"
    module_name, _, name = path.partition(":")
    module = _import(where, module_name, pool.path)
    function: Callable[..., Any] = _find(where, module, name)
    _check_callable(where, function, arguments)
    return function


def _import(where: str, name: str, path: tuple[str, ...]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _import_failed(where, error) from error
        looked = ", ".join(map(_looked_in, path)) or "no `path` is set for this pool"
        hint = "name the module without .py" if name.endswith(".py") else "correct the name or set the pool's `path`"
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
    with suppress(ValueError, TypeError):  # builtins and objects of C code may not tell their signature
        signature = inspect.signature(function)
        try:
            signature.bind(*arguments)
        except TypeError as error:
            given = "one argument, the message" if arguments else "no arguments"
            raise BootError(f"{where}: cannot be called with {given}: it takes {signature}") from error
