"""The methods that a middleware may have, and what is wrong with a class that is meant to be one. Pure.

Used by the forkserver after the import, and by workers for what a function of user code has returned. A method that
would never be called, or run nothing, is a fault: a misspelt one would go unnoticed.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

METHODS: dict[str, tuple[str, ...]] = {
    "before": ("message",),
    "after": ("message",),
    "failed": ("message", "error"),
    "around": ("message",),
}
"""Each method with its arguments."""

_LIKENESS = 0.8  # `befor`, `on_failed`, `Around`; not `after_commit`
_RUNS_NOTHING = "is a generator function: calling it runs nothing; write a plain or an `async def` method"
_IN_AROUND: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (inspect.isgeneratorfunction, "is a generator function: put @contextlib.contextmanager above it"),
    (inspect.isasyncgenfunction, "is a generator function: put @contextlib.asynccontextmanager above it"),
    (
        inspect.iscoroutinefunction,
        "returns no context manager: let it `yield` once, and put @contextlib.asynccontextmanager above it",
    ),
)


def fault_of(owner: object) -> str:
    """Why `owner`, a class or an object, cannot be a middleware, as a text that follows its name; "" if it can."""
    names = [name for name in dir(owner) if not name.startswith("_")]
    for name in names:
        if name not in METHODS and (meant := _meant(name)) and callable(getattr(owner, name, None)):
            return f"has a method {name!r}, which is never called: did you mean {meant!r}? (else begin its name with _)"
    found = [name for name in METHODS if name in names]
    if not found:
        return f"has none of the methods {', '.join(METHODS)}"
    return next((f"{name} {fault}" for name in found if (fault := _fault_of_method(owner, name))), "")


def has_async(owner: object) -> bool:
    """Whether a method of it runs on an event loop, as far as that can be seen before a call."""
    methods = [getattr(owner, name, None) for name in METHODS]
    return any(inspect.iscoroutinefunction(method) or _makes_async_manager(method) for method in methods)


def _makes_async_manager(method: object) -> bool:
    return inspect.isasyncgenfunction(getattr(method, "__wrapped__", None))


def _meant(name: str) -> str:
    return next(iter(difflib.get_close_matches(name.lower(), METHODS, 1, _LIKENESS)), "")


def _fault_of_method(owner: object, name: str) -> str:
    method = getattr(owner, name)
    if not callable(method):
        return f"is not a method but of type {type(method).__name__}"
    if name == "around":
        fault = next((fault for is_so, fault in _IN_AROUND if is_so(method)), "")
    else:
        fault = _RUNS_NOTHING if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method) else ""
    return fault or _fault_of_signature(owner, name)


def _fault_of_signature(owner: object, name: str) -> str:
    """As of a method; objects of C code may not tell their signature, and pass."""
    arguments: tuple[object, ...] = METHODS[name]
    is_bound = isinstance(inspect.getattr_static(owner, name), staticmethod | classmethod)
    if inspect.isclass(owner) and not is_bound:
        arguments = (None, *arguments)
    with suppress(ValueError, TypeError):
        signature = inspect.signature(getattr(owner, name))
        try:
            signature.bind(*arguments)
        except TypeError:
            return f"cannot be called with ({', '.join(METHODS[name])}): it takes {signature}"
    return ""
