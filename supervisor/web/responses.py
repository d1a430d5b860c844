"""Answers of the API: JSON, and errors with their HTTP status. No state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from supervisor.web.answers import Error

JSON = "application/json"

_HTTP_ERRORS = {
    404: "this path does not exist; /openapi.json lists what there is",
    405: "this method is not for this path; /openapi.json says which is",
}


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
