"""What the API answers, as types and as responses; errors with their HTTP status. No state.

Endpoints make the types, and /openapi.json is generated from them. The status object, and what the daemon answers to
orders, are in `control/results.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from supervisor.brokers.copy_headers import FORMER_CHARACTERS, FORMER_ROUNDS, PREVIEW_BYTES
from supervisor.control.results import Result, Time
from supervisor.exit_history import ExitShape

JSON = "application/json"

_HTTP_ERRORS = {
    404: "this path does not exist; /openapi.json lists what there is",
    405: "this method is not for this path; /openapi.json says which is",
}


class Error(Result, frozen=True):
    """Any answer that is an error."""

    error: Annotated[str, Meta(description="What was wrong, where, what to do.")]
    since: Annotated[Time | UnsetType, Meta(description="Since when the daemon has not answered.")] = UNSET
    missing: Annotated[list[str] | UnsetType, Meta(description="Ids that were not found.")] = UNSET


class Alive(Result, frozen=True):
    """Whether the daemon is alive."""

    ok: bool
    why: Annotated[list[str] | UnsetType, Meta(description="The reason of a no, for those who may read.")] = UNSET


class Ready(Result, frozen=True):
    """Whether the daemon does its work."""

    ready: bool
    why: Annotated[list[str] | UnsetType, Meta(description="A line for each reason, for those who may read.")] = UNSET


class Exit(ExitShape, kw_only=True):
    """An exit record; docs/exits.md has all of its fields."""

    at: Time
    kind: str
    pool: str
    cause: str


class Exits(Result, frozen=True):
    """Exit records, newest first."""

    exits: list[Exit]


class Series(Result, frozen=True):
    """How many exits there were in each of equal steps of time."""

    start: Time = msgspec.field(name="from")
    bucket_s: float
    causes: Annotated[dict[str, list[int]], Meta(description="A number for each step, by cause.")]


class Ended(Result, frozen=True):
    """How a round of a message ended."""

    cause: str
    reason: str
    attempts: int | None
    status: int | None
    signal: str | None
    worker: str
    at: str
    stack: str


class FormerRound(Ended, frozen=True):
    """How a round before the present one ended, in short."""

    round: int | None
    reason: Annotated[str, Meta(description=f"Its first {FORMER_CHARACTERS['reason']} characters.")]
    stack: Annotated[str, Meta(description=f"Its last {FORMER_CHARACTERS['stack']:,} characters.")]


class Letter(Ended, frozen=True):
    """A dead or parked message."""

    number: Annotated[int, Meta(description="Its place in the queue, from 1.")]
    id: str
    former: Annotated[list[FormerRound], Meta(max_length=FORMER_ROUNDS, description="Former rounds, oldest first.")]
    headers: Annotated[dict[str, Any], Meta(description="The sender's own headers.")]
    body_preview: Annotated[
        str, Meta(description=f"Its first {PREVIEW_BYTES:,} bytes, as text where it is UTF-8, else in hexadecimal.")
    ]
    body_bytes: int


class Letters(Result, frozen=True):
    """The oldest dead or parked messages of a pool."""

    letters: list[Letter]
    total: Annotated[int, Meta(description="How many messages were in the queue.")]
    at: Annotated[Time, Meta(description="When the queue was read.")]
    withheld: Annotated[
        bool, Meta(description="The request had no token: `headers` and `body_preview` are empty in all messages.")
    ] = False


class Moved(Result, frozen=True):
    """Messages that are in their pool's queue again."""

    moved: int
    missing: Annotated[list[str], Meta(description="Ids that were not found.")]


class Dropped(Result, frozen=True):
    """Messages that were deleted."""

    dropped: int
    missing: Annotated[list[str], Meta(description="Ids that were not found.")]


class Reloading(Result, frozen=True):
    """A reload that goes on."""

    reloading: bool = True


class ApiError(Exception):
    """An error answer. `status`: of HTTP; `text` says what was wrong, where, what to do; `facts`: more JSON values."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None, **facts: Any) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers
        self.body = Error(error=text, **facts)


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The answer with `value` as JSON and the HTTP `status`."""
    return Response(encoded(value), status, headers, JSON)


def encoded(value: Any) -> bytes:
    """The `value` as JSON; lone surrogates, which may come from messages, are escaped."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_printable(msgspec.to_builtins(value)))


def error_answer(error: ApiError) -> Response:
    """The answer for an ApiError."""
    return json_answer(error.body, error.status, error.headers)


async def on_api_error(request: Request, error: Exception) -> Response:
    """Starlette's handler of ApiError."""
    return error_answer(error) if isinstance(error, ApiError) else await on_bug(request, error)


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Starlette's handler of its own errors: unknown path, wrong method."""
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    headers = error.headers if isinstance(error, HTTPException) else None
    return json_answer(Error(error=_HTTP_ERRORS.get(status, detail)), status, headers)


async def on_bug(_request: Request, _error: Exception) -> Response:
    """Starlette's handler of all other exceptions, which it has logged."""
    return json_answer(Error(error="preforkd failed to answer; its log has more"), 500)


def _printable(value: Any) -> Any:
    """The same value with lone surrogates escaped."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_printable(name): _printable(item) for name, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list | tuple) else value
