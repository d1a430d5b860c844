"""Decides whether the return value of a handler or `init` is undone work. Runs in workers.

The value itself is ignored. But a coroutine, a generator or a pending future is undone work, and counting it as done
would lose it silently. This file must not import asyncio or concurrent.futures: most handlers need neither.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

_FRAMES: dict[type, str] = {CoroutineType: "cr_frame", GeneratorType: "gi_frame", AsyncGeneratorType: "ag_frame"}
"""Types that a call only creates and does not run, with the attribute of their frame: None once they have ended."""


def undone_work(returned: object) -> str:
    """Why the `returned` value is undone work, as a text that follows the function's name; "" if it is not.

    Raises the exception of a failed future, and any exception of a proxy of user code.
    """
    for judge in _JUDGES:
        why = judge(returned)
        if why is not None:
            return why
    return ""


def _of_frames(returned: Any) -> str | None:
    attribute = next((_FRAMES[kind] for kind in _FRAMES if isinstance(returned, kind)), None)
    if attribute is None:
        return None
    if getattr(returned, attribute) is None:
        return ""
    if not isinstance(returned, AsyncGeneratorType):
        with suppress(Exception):  # an exception in its `finally` adds nothing
            returned.close()
    return _unawaited(returned) if isinstance(returned, CoroutineType) else _unread(returned)


def _of_futures(returned: Any) -> str | None:
    if not callable(getattr(returned, "add_done_callback", None)) or not callable(getattr(returned, "done", None)):
        return None
    if not returned.done():
        return f"returned a {_name(returned)} that is still pending; wait for it"
    error = returned.exception()
    if isinstance(error, BaseException):
        raise error
    return ""


def _of_iterators(returned: Any) -> str | None:
    return _unread(returned) if isinstance(returned, map | filter) else None


def _of_awaitables(returned: Any) -> str | None:
    return _unawaited(returned) if inspect.isawaitable(returned) else None


_JUDGES: tuple[Callable[[Any], str | None], ...] = (_of_frames, _of_futures, _of_iterators, _of_awaitables)
"""Each returns None for an unknown type; the first other result counts."""


def _unawaited(returned: object) -> str:
    return f"returned a {_name(returned)} that is never awaited; call asyncio.run in it"


def _unread(returned: object) -> str:
    return f"returned a {_name(returned)} that is never read, so that it ran nothing; use a loop in the handler"


def _name(returned: object) -> str:
    return type(returned).__name__
