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
    """The exception's type and text in one piece: `ValueError: no such user`; the beginning of a long one."""
    text = "".join(traceback.format_exception_only(error)).strip()
    return sendable(text).encode()[:REASON_BYTES].decode(errors="ignore")


def sendable(text: str) -> str:
    """The text without what UTF-8 cannot carry (lone surrogates are written as escapes)."""
    return text.encode(errors="backslashreplace").decode()


def _end_of(text: str, limit: int) -> str:
    return sendable(text).encode()[-limit:].decode(errors="ignore")
