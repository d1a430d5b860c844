"""The GET endpoints of the API. They change nothing.

`GET /api/events` sends the status cache's news as server-sent events, until the reader leaves or is too slow.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from pathlib import Path

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from supervisor import metrics
from supervisor.control.probes import probed
from supervisor.system.clock import wall_s
from supervisor.web import openapi, request_parsing
from supervisor.web.answers import JSON, Alive, ApiError, Ready, encoded, json_answer
from supervisor.web.auth_middleware import knows_token, may_read
from supervisor.web.dead_letters import DeadLetterClient, without_contents
from supervisor.web.status_cache import EventReader, StatusCache

STATIC = Path(__file__).parent / "static"
MAX_READERS = 50
HEARTBEAT_S = 15.0
RETRY = b"retry: 2000\n\n"
HEARTBEAT = b": still here\n\n"


class ReadEndpoints:
    """The endpoints; their names are the paths."""

    def __init__(self, cache: StatusCache, letters: DeadLetterClient) -> None:
        self._cache = cache
        self._letters = letters

    async def page(self, _request: Request) -> Response:
        """The page."""
        return FileResponse(STATIC / "index.html")

    async def healthz(self, request: Request) -> Response:
        """Whether the daemon is alive; the reason of a no only for clients that may read."""
        reasons = await self._reasons("live")
        alive = Alive(ok=not reasons, why=reasons if reasons and may_read(request) else UNSET)
        return json_answer(alive, 503 if reasons else 200)

    async def readyz(self, request: Request) -> Response:
        """Whether the daemon works; the reasons only for clients that may read."""
        reasons = await self._reasons("ready")
        ready = Ready(ready=not reasons, why=reasons if may_read(request) else UNSET)
        return json_answer(ready, 503 if reasons else 200)

    async def _reasons(self, kind: str) -> list[str]:
        """Why the answer to a probe of this kind is no, as `preforkd status --probe` has it."""
        try:
            status, _encoded = await self._cache.status()
        except ApiError as error:
            return [str(error)]
        return probed(kind, lambda: status).why

    async def metrics(self, _request: Request) -> Response:
        """The status in the format of Prometheus. Raises ApiError 503 if the daemon is silent."""
        status, _encoded = await self._cache.status()
        text = await asyncio.to_thread(metrics.render, status)
        return Response(text, headers={"content-type": metrics.CONTENT_TYPE})

    async def openapi(self, _request: Request) -> Response:
        """The API's description."""
        return Response(self._description, media_type=JSON)

    @cached_property
    def _description(self) -> bytes:
        return encoded(openapi.document())

    async def status(self, _request: Request) -> Response:
        """The status object."""
        _status, facts = await self._cache.status()
        return Response(facts, media_type=JSON)

    async def exits(self, request: Request) -> Response:
        """The last exits."""
        limit = request_parsing.number(request, request_parsing.EXITS)
        query = request.query_params
        history = await self._cache.history()
        return json_answer({"exits": history.last(query.get("pool"), query.get("cause"), limit)})

    async def series(self, request: Request) -> Response:
        """Exits over time."""
        minutes = request_parsing.number(request, request_parsing.MINUTES)
        buckets = request_parsing.number(request, request_parsing.BUCKETS)
        history = await self._cache.history()
        return json_answer(history.series(minutes, buckets, request.query_params.get("pool"), wall_s()))

    async def events(self, request: Request) -> Response:
        """Changes of status, and exits, as server-sent events. Raises ApiError 503 at the limit of readers."""
        if self._cache.listeners >= MAX_READERS:
            raise ApiError(503, f"{MAX_READERS} readers follow already: close other windows", {"retry-after": "5"})
        if request.method == "HEAD":
            return Response(media_type=EventStream.media_type)
        return EventStream(self._cache)

    async def letters(self, request: Request) -> Response:
        """Dead or parked messages."""
        kind = request_parsing.kind(request.query_params.get("kind", "dead"))
        limit = request_parsing.number(request, request_parsing.LETTERS)
        pool = await self._cache.pool(request.path_params["pool"])
        found = await self._letters.look(pool.queue, kind, limit)
        return json_answer(found if knows_token(request) else without_contents(found))


class EventStream(Response):
    """An answer without an end."""

    media_type = "text/event-stream"

    def __init__(self, cache: StatusCache) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client or the cache ends the stream."""
        with self._cache.listener() as listener:
            both = [asyncio.create_task(self._talk(listener, send)), asyncio.create_task(_until_gone(receive))]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in both:
                    task.cancel()
                await asyncio.gather(*both, return_exceptions=True)

    async def _talk(self, listener: EventReader, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await _say(send, RETRY)
        while not listener.lost:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    frames = await listener.take()
            except TimeoutError:
                frames = HEARTBEAT
            await _say(send, frames)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _say(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
