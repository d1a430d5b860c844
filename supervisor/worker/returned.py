"""Decides whether the return value of a handler or `init` is work that was never done. Runs in workers.

The value itself is ignored; but a coroutine, a generator, a future that is still pending is the work, and counting it
as done would lose it without a word. It must not import asyncio or concurrent.futures: most handlers need neither.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

_FRAMES: dict[type, str] = {CoroutineType: "cr_frame", GeneratorType: "gi_frame", AsyncGeneratorType: "ag_frame"}
"""Types that a call only makes and does not run, and where each has its frame: none once it has run to its end."""


def undone_work(returned: object) -> str:
    """Why what a function returned is work that was not done, after the function's name; "" where it is none.

    Raises what a future that was returned has failed with, and whatever a proxy of user code raises when looked at.
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
        with suppress(Exception):  # what the code at its `finally` raises is no news
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
"""Each says None for what it does not know; the first that knows it decides."""


def _unawaited(returned: object) -> str:
    return f"returned a {_name(returned)} that nobody awaits; call asyncio.run in it"


def _unread(returned: object) -> str:
    return f"returned a {_name(returned)} that nobody reads, so that it ran nothing; use a loop in the handler"


def _name(returned: object) -> str:
    return type(returned).__name__
