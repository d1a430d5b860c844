"""The protocol of the control socket (docs/control-protocol.md): JSON lines, a table of verbs. Pure.

Used by the master (`server.py`) and the command line (`client.py`). A request is checked here against the table, so
the code of a verb gets only arguments of known names and types, and no negative time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from supervisor.control import results
from supervisor.errors import ControlError, PreforkdError

Request = dict[str, Any]
Result = results.Result | dict[str, Any]
Facts = dict[str, Any]
"""A result as it was read: JSON values."""

T = TypeVar("T", bound=results.Result)

MAX_REQUEST_BYTES = 64 * 1024

_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""Errors of msgspec: no JSON, no UTF-8, nested too deeply. Before msgspec 0.21 its own errors are no ValueErrors."""

_TEXT = (str,)
_FLAG = (bool,)
_COUNT = (int,)
_LIST = (list,)
_SECONDS_OR_NULL = (int, float, type(None))

VERBS: dict[str, dict[str, tuple[type, ...]]] = {
    "status": {},
    "stop": {"now": _FLAG, "timeout_s": _SECONDS_OR_NULL, "wait": _FLAG},
    "ping": {},
    "probe": {"kind": _TEXT},
    "find": {"message_id": _TEXT},
    "pending": {"pool": _TEXT, "drop": _LIST, "all": _FLAG, "by": _TEXT},
    "cut_connection": {"pool": _TEXT},
    "reload": {"wait": _FLAG},
    "scale": {"pool": _TEXT, "workers": _COUNT},
    "pause": {"pool": _TEXT, "by": _TEXT},
    "resume": {"pool": _TEXT},
    "retry": {"pool": _TEXT},
}
"""Every verb with its arguments and their types. The code of a verb checks for missing ones."""


class Pending:
    """An answer that is completed later, such as the drain report of `stop`.

    `first`: a result that is sent at once, before the answer; None for none. `complete` and `fail` send the answer at
    once, or do nothing if the client is gone. Only the first call counts.
    """

    def __init__(self, first: Result | None = None) -> None:
        self.first = first
        self._line: bytes | None = None
        self._deliver: Callable[[bytes], None] | None = None

    def complete(self, result: Result) -> None:
        """Answer with a result."""
        self._settle(answer_line(result))

    def fail(self, error: PreforkdError) -> None:
        """Answer with an error."""
        self._settle(error_line(error))

    def attach(self, deliver: Callable[[bytes], None]) -> None:
        """Call `deliver(line)` with the answer, now or once it is complete. For the server."""
        self._deliver = deliver
        if self._line is not None:
            deliver(self._line)

    def _settle(self, line: bytes) -> None:
        if self._line is not None:
            return
        self._line = line
        if self._deliver is not None:
            self._deliver(line)


def read_request(line: bytes) -> Request:
    """The request in `line`. Raises ControlError if it is invalid."""
    try:
        request = msgspec.json.decode(line)
    except _UNREADABLE as error:
        raise ControlError(f"this is not a line of JSON: {error}; send one object a line") from error
    if not isinstance(request, dict):
        raise ControlError(f'a request is an object like {{"verb": "status"}}, not {type(request).__name__}')
    _check(request)
    return request


def request_line(verb: str, arguments: dict[str, Any]) -> bytes:
    """The line of a request: a `verb` with its `arguments`."""
    return msgspec.json.encode({"verb": verb, **arguments}) + b"\n"


def answer_line(result: Result) -> bytes:
    """The line of a result, or of an error if the result cannot be written as JSON."""
    try:
        return msgspec.json.encode({"ok": True, "result": result}) + b"\n"
    except (TypeError, *_UNREADABLE) as error:
        return error_line(ControlError(f"the answer cannot be written as JSON: {error}; please report this"))


def error_line(error: PreforkdError) -> bytes:
    """The line of an error answer, with the exit status for the command line."""
    text = str(error).encode(errors="backslashreplace").decode()
    return msgspec.json.encode({"ok": False, "error": text, "status": error.exit_code}) + b"\n"


def read_answer(line: bytes) -> Facts:
    """The result in the answer `line`. Raises ControlError with the daemon's text and exit status."""
    try:
        answer = msgspec.json.decode(line, type=_Answer)
    except _UNREADABLE as error:
        raise ControlError(
            f"the answer on the control socket is not preforkd's ({error}); another program may listen there"
        ) from error
    if answer.ok:
        return answer.result
    refusal = ControlError(answer.error)
    refusal.exit_code = answer.status
    raise refusal


def typed(result: Facts, kind: type[T]) -> T:
    """A `result` as a `kind`. Raises ControlError for one that lacks something, as of another version."""
    try:
        return msgspec.convert(result, kind)
    except msgspec.ValidationError as error:
        raise ControlError(
            f"the daemon is of another version, and its answer cannot be read ({error}): `preforkd restart` replaces it"
        ) from error


class _Answer(msgspec.Struct):
    ok: bool
    result: Facts = msgspec.field(default_factory=dict)
    error: str = "the daemon gave no reason"
    status: int = 1


def _check(request: Request) -> None:
    verb = request.get("verb")
    arguments = VERBS.get(verb) if isinstance(verb, str) else None
    if arguments is None:
        raise ControlError(f"there is no verb {verb!r}; there are {', '.join(VERBS)}")
    for name, value in request.items():
        if name == "verb":
            continue
        if name not in arguments:
            raise ControlError(f"{verb} takes no argument {name!r}; it takes {', '.join(arguments) or 'none'}")
        if type(value) not in arguments[name]:  # not isinstance: a bool would pass as an int
            wanted = " or ".join(kind.__name__ for kind in arguments[name])
            raise ControlError(f"{verb}: {name} must be {wanted}, not {value!r}")
        if arguments[name] is _SECONDS_OR_NULL and value is not None and value < 0:
            raise ControlError(f"{verb}: {name} must not be negative, as {value!r} is: 0 or more seconds, or null")
