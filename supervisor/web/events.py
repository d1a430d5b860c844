"""`GET /api/events`: the mirror's news as server-sent events, until the reader leaves or is too slow."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from supervisor.web.responses import ApiError
from supervisor.web.status_cache import Listener, StatusCache

MAX_READERS = 50
HEARTBEAT_S = 15.0
RETRY = b"retry: 2000\n\n"
HEARTBEAT = b": still here\n\n"


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

    async def _talk(self, listener: Listener, send: Send) -> None:
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


def event_stream(request: Request, cache: StatusCache) -> Response:
    """The answer to a request for events. Raises ApiError 503 at the limit of readers."""
    if cache.listeners >= MAX_READERS:
        raise ApiError(503, f"{MAX_READERS} readers follow already: close other windows", {"retry-after": "5"})
    if request.method == "HEAD":
        return Response(media_type=EventStream.media_type)
    return EventStream(cache)


async def _say(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
