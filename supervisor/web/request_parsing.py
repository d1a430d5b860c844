"""Reads and checks the query parameters and JSON bodies of requests.

A fault is raised as an ApiError with status 400 (413: too long, 408: too slow).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request

from supervisor.web.answers import ApiError

MAX_BODY_BYTES = 512 * 1024
BODY_S = 10.0

KINDS = ("dead", "parked")

MessageId = Annotated[str, Meta(min_length=1, max_length=255)]


class Number(NamedTuple):
    """A whole number in an address's query, from `least` to `most`."""

    name: str
    least: int
    most: int
    default: int
    description: str


EXITS = Number("limit", 1, 500, 100, "How many at most; the last 2,000 exits are kept at hand.")
MINUTES = Number("minutes", 1, 1440, 60, "How far back.")
BUCKETS = Number("buckets", 1, 240, 60, "In how many steps.")
LETTERS = Number("limit", 1, 200, 50, "How many at most.")


class Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """The messages of an action: `{"kind": "dead", "ids": ["…"]}`."""

    ids: Annotated[list[MessageId], Meta(min_length=1, max_length=1000)]
    kind: Annotated[str, Meta(extra_json_schema={"enum": KINDS})] = "dead"


class Scale(msgspec.Struct, forbid_unknown_fields=True):
    """The number of workers."""

    workers: Annotated[int, Meta(ge=1, le=10_000)]


T = TypeVar("T")


def client(request: Request) -> str:
    """The address of the client, or "unknown"."""
    return request.client.host if request.client is not None else "unknown"


async def body(request: Request, type_: type[T]) -> T:
    """The request's JSON body as a struct. Raises ApiError 400, 408 or 413."""
    data = await _read(request)
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, ValueError) as error:  # before msgspec 0.21 the one is not the other
        raise ApiError(400, f"the body is not as /openapi.json describes it: {error}") from error


def number(request: Request, wanted: Number) -> int:
    """A whole number from the query. Raises ApiError 400 for one that is not `wanted`."""
    text = request.query_params.get(wanted.name)
    if text is None:
        return wanted.default
    fits = text.isascii() and text.isdecimal() and len(text) <= len(str(wanted.most))
    if fits and wanted.least <= int(text) <= wanted.most:
        return int(text)
    allowed = f"a whole number from {wanted.least} to {wanted.most}"
    raise ApiError(400, f"{wanted.name} must be {allowed}, not {_short(text)}")


def kind(text: Any) -> str:
    """The kind of messages in `text`: `dead` or `parked`. Raises ApiError 400."""
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
