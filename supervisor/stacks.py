"""Exceptions of user code as texts that fit into frames, records and message headers. Pure; any process may use it.

User code may raise anything: exceptions whose text is endless, cannot be made, or is no valid Unicode. What leaves
here is always short, valid UTF-8.
"""

from __future__ import annotations

import traceback
from types import TracebackType

STACK_BYTES = 16 * 1024
REASON_BYTES = 1024

_CUT = "[… cut …]\n"


def stack_of(error: BaseException, since: TracebackType | None = None) -> str:
    """The stack as Python prints it, its end where it is too long. `since`: begin at this frame, not at our own."""
    trace = error.__traceback__ if since is None else since
    text = "".join(traceback.format_exception(type(error), error, trace))
    short = _end_of(text, STACK_BYTES - len(_CUT.encode()))
    return short if short == sendable(text) else _CUT + short


def reason_of(error: BaseException) -> str:
    """The exception's type and text: `ValueError: no such user`; the beginning of a long one."""
    kind, text = type(error), text_of(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return _beginning_of(f"{name}: {text}" if text else name)


def text_of(error: BaseException) -> str:
    """The exception's own text, "" where it has none; the beginning of a long one."""
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001  (a user's __str__ may raise anything)
        text = f"(its text cannot be had: {type(failure).__name__})"
    return _beginning_of(text)


def sendable(text: str) -> str:
    """The text without what UTF-8 cannot carry (lone surrogates are written as escapes)."""
    return text.encode(errors="backslashreplace").decode()


def _beginning_of(text: str) -> str:
    return sendable(text).encode()[:REASON_BYTES].decode(errors="ignore")


def _end_of(text: str, limit: int) -> str:
    return sendable(text).encode()[-limit:].decode(errors="ignore")
