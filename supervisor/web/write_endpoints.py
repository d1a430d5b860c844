"""The POST endpoints of the API: actions of operators. The token was checked before (`auth_middleware.py`).

Threads send control requests, as the command line does. Each request is logged, with its client and its arguments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from supervisor.control.client import ControlClient, NoAnswer, NotRunning
from supervisor.errors import ConfigError, ControlError
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.web import request_parsing
from supervisor.web.answers import ApiError, Dropped, Moved, Reloading, json_answer
from supervisor.web.dead_letters import DeadLetterClient
from supervisor.web.status_cache import StatusCache

RELOAD_S = 5.0
_THREADS = 4

T = TypeVar("T")


class WriteEndpoints:
    """The endpoints; their names are the paths."""

    def __init__(self, cache: StatusCache, letters: DeadLetterClient, runtime_dir: Path) -> None:
        self._cache = cache
        self._letters = letters
        self._runtime_dir = runtime_dir
        self._threads = ThreadPoolExecutor(_THREADS, "orders")

    async def pause(self, request: Request) -> Response:
        """Pause a pool."""
        return await self._order(request, "pause", by=f"web ({request_parsing.client(request)})")

    async def resume(self, request: Request) -> Response:
        """Resume a pool."""
        return await self._order(request, "resume")

    async def retry_held(self, request: Request) -> Response:
        """Start held children now."""
        return await self._order(request, "retry")

    async def scale(self, request: Request) -> Response:
        """Change the number of workers."""
        wish = await request_parsing.body(request, request_parsing.Scale)
        return await self._order(request, "scale", workers=wish.workers)

    async def retry(self, request: Request) -> Response:
        """Move dead or parked messages to their work queue."""
        queue, chosen = await self._chosen(request, "retry")
        moved, missing = await self._letters.retry(queue, chosen.kind, chosen.ids)
        _check_any(moved, missing, queue, chosen.kind)
        return json_answer(Moved(moved=moved, missing=missing))

    async def drop(self, request: Request) -> Response:
        """Delete dead or parked messages."""
        queue, chosen = await self._chosen(request, "drop")
        dropped, missing = await self._letters.drop(queue, chosen.kind, chosen.ids)
        _check_any(dropped, missing, queue, chosen.kind)
        return json_answer(Dropped(dropped=dropped, missing=missing))

    async def reload(self, request: Request) -> Response:
        """Reload; the answer waits at most `RELOAD_S` for its end."""
        _note(request, "reload")
        result = await self._in_thread(self._reload)
        return json_answer(result or Reloading(), 200 if result is not None else 202)

    # ---- inside ---------------------------------------------------------------------------------------------------

    async def _order(self, request: Request, verb: str, **arguments: Any) -> Response:
        name = request.path_params["pool"]
        await self._cache.pool(name)
        _note(request, verb, pool=name, **{key: value for key, value in arguments.items() if key != "by"})
        return json_answer(await self._in_thread(lambda: self._ask(verb, pool=name, **arguments)))

    async def _chosen(self, request: Request, action: str) -> tuple[str, request_parsing.Chosen]:
        chosen = await request_parsing.body(request, request_parsing.Chosen)
        request_parsing.kind(chosen.kind)
        pool = await self._cache.pool(request.path_params["pool"])
        _note(request, action, pool=request.path_params["pool"], kind=chosen.kind, ids=chosen.ids)
        return pool.queue, chosen

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (NotRunning, NoAnswer) as error:
            raise ApiError(503, str(error)) from error
        except ControlError as error:
            raise ApiError(422 if error.exit_code == ConfigError.exit_code else 409, str(error)) from error
        finally:
            self._cache.expire()

    def _ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        with ControlClient(self._runtime_dir) as client:
            return client.ask(verb, **arguments)

    def _reload(self) -> dict[str, Any] | None:
        """The result of a reload; None if it is not over."""
        with ControlClient(self._runtime_dir) as client:
            client.ask("reload", wait=True)
            try:
                return client.next_answer(RELOAD_S)
            except NoAnswer:
                return None


def _note(request: Request, action: str, **facts: Any) -> None:
    by = request_parsing.client(request)
    log(Event.WEB_ACTION, f"{action} was asked for on the web page, from {by}", action=action, by=by, **facts)


def _check_any(count: int, missing: list[str], queue: str, kind: str) -> None:
    if not count:
        raise ApiError(404, f"none of these messages is in {queue}.{kind} any more: look again", missing=missing)
