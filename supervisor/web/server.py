"""The web child: its paths, each with its endpoint; it listens, and serves until the master sends `Quit` or is gone.

The only loop is asyncio's. Nothing in it may block: threads query the daemon and the broker.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import closing
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from supervisor.config.schema import WebConfig
from supervisor.config.sidecar_rules import is_loopback
from supervisor.errors import StateError
from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import Quit, Serving, SidecarOrder, StartSidecar
from supervisor.web.answers import ApiError, on_api_error, on_bug, on_http_error
from supervisor.web.auth_middleware import AuthMiddleware
from supervisor.web.connections import IDLE_S, HttpConnection
from supervisor.web.dead_letters import DeadLetterClient
from supervisor.web.read_endpoints import STATIC, ReadEndpoints
from supervisor.web.status_cache import StatusCache
from supervisor.web.token_file import token_of
from supervisor.web.write_endpoints import WriteEndpoints

GRACE_S = 1.0
BACKLOG = 128
MAX_HEAD_BYTES = 16 * 1024


def make_app(start: StartSidecar, cache: StatusCache) -> ASGIApp:
    """The application behind its middleware, with the paths that `openapi.py` describes.

    Raises StateError if the token file cannot be used.
    """
    token = token_of(start.web)
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
    return AuthMiddleware(app, start.web, token)


async def serve(start: StartSidecar, master: Channel[SidecarOrder]) -> None:
    """Serve until `Quit`. Raises StateError if it cannot listen, ChannelClosed if the master is gone."""
    cache = StatusCache(Path(start.runtime_dir), Path(start.state_dir))
    config, state = _config(start, cache), ServerState()
    with closing(_listen(start.web)) as listener:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: HttpConnection(config, state, {}), sock=listener, backlog=BACKLOG)
        master.send(Serving(f"on http://{_address(listener)}"))
        master.flush()
        await _until_told(master)
        server.close()
        cache.close()
        await _drained(state)


def _config(start: StartSidecar, cache: StatusCache) -> Config:
    config = Config(
        make_app(start, cache),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        interface="asgi3",
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_keep_alive=int(IDLE_S),
    )
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # its warnings are about bad requests
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    return config


def _listen(web: WebConfig) -> socket.socket:
    """The listening socket. Raises StateError."""
    host, port = web.address
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StateError(f'[web] listen = "{web.listen}": {error.strerror or error}') from error
    if not web.has_token and not is_loopback(str(address[0])):
        listener.close()
        raise StateError(f'[web] listen = "{web.listen}" is no loopback address: that needs token_file, or token')
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise StateError(
            f'[web] listen = "{web.listen}": {error.strerror}; choose another port, or find its user (ss -ltnp)'
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _until_told(master: Channel[SidecarOrder]) -> None:
    """Return at the master's `Quit`. Raises ChannelClosed if it is gone."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()

    def hear() -> None:
        try:
            if any(isinstance(order, Quit) for order in master.receive()) and not told.done():
                told.set_result(None)
            master.confirm()
        except ChannelClosed as error:
            loop.remove_reader(master)
            if not told.done():
                told.set_exception(error)

    loop.add_reader(master, hear)
    await told


async def _drained(state: ServerState) -> None:
    """Close idle connections, and wait up to `GRACE_S` for unfinished answers on the others."""
    for connection in list(state.connections):
        connection.shutdown()
    for _ in range(10):
        if not state.connections:
            return
        await asyncio.sleep(GRACE_S / 10)
