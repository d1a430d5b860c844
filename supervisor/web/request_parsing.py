"""What a request asks for: parameters of the address and JSON bodies, checked before anybody acts on them.

Whatever is wrong comes out as an ApiError with status 400 (413: too much, 408: too slow).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request

from supervisor.web.responses import ApiError

MAX_BODY_BYTES = 512 * 1024
BODY_S = 10.0

KINDS = ("dead", "parked")

MessageId = Annotated[str, Meta(min_length=1, max_length=255)]


class Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """Which letters: `{"kind": "dead", "ids": ["…"]}`."""

    ids: Annotated[list[MessageId], Meta(min_length=1, max_length=1000)]
    kind: str = "dead"


class Scale(msgspec.Struct, forbid_unknown_fields=True):
    """How many workers."""

    workers: Annotated[int, Meta(ge=1, le=10_000)]


T = TypeVar("T")


async def body(request: Request, type_: type[T]) -> T:
    """The request's JSON body as a struct."""
    data = await _read(request)
    try:
        return msgspec.json.decode(data, type=type_)
    except ValueError as error:  # msgspec's errors are
        raise ApiError(400, f"the body is not as /openapi.json describes it: {error}") from error


def number(request: Request, name: str, least: int, most: int, default: int) -> int:
    """A whole number from the query."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most:
        return int(text)
    raise ApiError(400, f"{name} must be a whole number from {least} to {most}, not {_short(text)}")


def kind(text: Any) -> str:
    """Which of a pool's letters: `dead` or `parked`."""
    if text in KINDS:
        return str(text)
    raise ApiError(400, f"kind must be one of {', '.join(KINDS)}, not {_short(str(text))}")


async def _read(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_S):
            return await _whole(request)
    except TimeoutError as error:
        raise ApiError(408, f"the body did not arrive within {BODY_S:g} s", {"connection": "close"}) from error
    except ClientDisconnect as error:
        raise ApiError(400, "the body ended too early") from error


async def _whole(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise ApiError(413, f"a body is at most {MAX_BODY_BYTES} bytes", {"connection": "close"})
    return bytes(data)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
