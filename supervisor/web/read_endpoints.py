"""The GET endpoints of the API. They change nothing."""

from __future__ import annotations

import asyncio
from functools import cached_property
from pathlib import Path

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from supervisor import metrics
from supervisor.system.clock import wall_s
from supervisor.web import openapi, request_parsing
from supervisor.web.answers import Alive, Ready
from supervisor.web.auth_middleware import may_read
from supervisor.web.dead_letters import DeadLetterClient
from supervisor.web.events import event_stream
from supervisor.web.readiness import reasons_not_ready
from supervisor.web.responses import JSON, ApiError, encoded, json_answer
from supervisor.web.status_cache import StatusCache

STATIC = Path(__file__).parent / "static"


class ReadEndpoints:
    """The endpoints; their names are the paths."""

    def __init__(self, cache: StatusCache, letters: DeadLetterClient) -> None:
        self._cache = cache
        self._letters = letters

    async def page(self, _request: Request) -> Response:
        """The page."""
        return FileResponse(STATIC / "index.html")

    async def healthz(self, _request: Request) -> Response:
        """Always the same answer: this process works."""
        return json_answer(Alive())

    async def readyz(self, request: Request) -> Response:
        """Whether the daemon works; the reasons only for clients that may read."""
        try:
            status, _encoded = await self._cache.status()
            reasons = reasons_not_ready(status)
        except ApiError as error:
            reasons = [str(error)]
        ready = Ready(ready=not reasons, why=reasons if may_read(request) else UNSET)
        return json_answer(ready, 503 if reasons else 200)

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
        """Changes of status, and exits, as server-sent events."""
        return event_stream(request, self._cache)

    async def letters(self, request: Request) -> Response:
        """Dead or parked messages."""
        kind = request_parsing.kind(request.query_params.get("kind", "dead"))
        limit = request_parsing.number(request, request_parsing.LETTERS)
        pool = await self._cache.pool(request.path_params["pool"])
        return json_answer(await self._letters.look(pool.queue, kind, limit))
