"""The application: a table of paths, each with its endpoint. /openapi.json describes the same (a test compares)."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from supervisor.link.frames import StartSidecar
from supervisor.web.answers import ApiError, on_api_error, on_bug, on_http_error
from supervisor.web.auth_middleware import AuthMiddleware
from supervisor.web.dead_letters import DeadLetterClient
from supervisor.web.read_endpoints import STATIC, ReadEndpoints
from supervisor.web.status_cache import StatusCache
from supervisor.web.token_file import TokenFile
from supervisor.web.write_endpoints import WriteEndpoints


def make_app(start: StartSidecar, cache: StatusCache) -> ASGIApp:
    """The application behind its middleware. Raises StateError if the token file cannot be used."""
    token = TokenFile(Path(start.web.token_file)) if start.web.token_file else None
    letters = DeadLetterClient(start.broker, start.state_dir)
    reading, acting = ReadEndpoints(cache, letters), WriteEndpoints(cache, letters, Path(start.runtime_dir))
    read = {
        "/": reading.page,
        "/healthz": reading.healthz,
        "/readyz": reading.readyz,
        "/metrics": reading.metrics,
        "/openapi.json": reading.openapi,
        "/api/status": reading.status,
        "/api/exits": reading.exits,
        "/api/exits/series": reading.series,
        "/api/events": reading.events,
        "/api/pools/{pool}/letters": reading.letters,
    }
    act = {
        "/api/pools/{pool}/letters/retry": acting.retry,
        "/api/pools/{pool}/letters/drop": acting.drop,
        "/api/pools/{pool}/pause": acting.pause,
        "/api/pools/{pool}/resume": acting.resume,
        "/api/pools/{pool}/retry": acting.retry_held,
        "/api/pools/{pool}/scale": acting.scale,
        "/api/reload": acting.reload,
    }
    app = Starlette(
        routes=[
            *(Route(path, endpoint, methods=["GET"]) for path, endpoint in read.items()),
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in act.items()),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={ApiError: on_api_error, HTTPException: on_http_error, Exception: on_bug},
    )
    app.router.redirect_slashes = False
    return AuthMiddleware(app, start.web.address[0], token)
