"""Checks before any endpoint is called, and headers on every answer.

A page of another site must not reach this server through a browser inside the network: Host is checked against DNS
rebinding, Origin against forged requests (CSRF). Actions need the token; on an address that others can reach, reads do.
"""

from __future__ import annotations

import logging
import re
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.config.schema import WebConfig
from supervisor.config.sidecar_rules import is_loopback
from supervisor.errors import StateError
from supervisor.system.clock import monotonic_s
from supervisor.web.answers import ApiError, error_answer
from supervisor.web.request_parsing import client
from supervisor.web.token_file import Token

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
FREE = ("/", "/healthz", "/readyz", "/openapi.json")
"""Readable without a token on every address: they contain nothing about the daemon."""

STATIC = "/static/"
READERS = ("GET", "HEAD")
_WARN_S = 10.0
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[0-9a-z._-]+)(:[0-9]*)?")
_NO_TOKEN = (
    "there is no token, so actions are off: set [web] token_file to a file with one, readable by preforkd's user only, "
    "or [web] token, and reload; or use the command line"
)


class AuthMiddleware:
    """The middleware. `web`: where the server listens, and under which names; `token`: None if actions are off."""

    def __init__(self, app: ASGIApp, web: WebConfig, token: Token | None) -> None:
        host = web.address[0]
        self._app = app
        self._token = token
        self._open = is_loopback(host)
        own_names = ("localhost",) if self._open else (socket.gethostname().lower(), socket.getfqdn().lower())
        allowed = [name.lower() for name in web.allowed_hosts]
        self._names = {host.lower(), *own_names, *allowed}
        self._domains = tuple(name[1:] for name in allowed if name.startswith("*."))
        self._warned_s = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it to the application."""
        request = Request(scope)
        answering = _with_headers(send, scope["path"])
        try:
            self._check(request)
        except ApiError as error:
            await error_answer(error)(scope, receive, answering)
        else:
            await self._app(scope, receive, answering)

    def _check(self, request: Request) -> None:
        self._check_host(request.headers.get("host", ""))
        scope = request.scope
        if request.method in READERS:
            knows = self._reader_knows(request)
            scope["state"] |= {"may_read": self._open or knows, "knows_token": knows}
            path = scope["path"]
            if not (scope["state"]["may_read"] or path in FREE or path.startswith(STATIC)):
                raise self._unauthorized(
                    request, "reading needs the token here, because other machines can reach this address"
                )
        else:
            self._check_origin(request)
            if self._token is None:
                raise ApiError(403, _NO_TOKEN)
            if not self._knows(request):
                raise self._unauthorized(request, "this action needs the token")

    def _check_host(self, host: str) -> None:
        name = _host_name(host)
        if name in self._names or _is_address(name, loopback_only=self._open):
            return
        if self._domains and name.endswith(self._domains):
            return
        raise ApiError(
            421,
            f"this server is not {host[:100]!r}: use its address as in [web] listen (a proxy in front of it "
            "has to pass that as Host), or add the name to [web] allowed_hosts",
        )

    def _check_origin(self, request: Request) -> None:
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        site = request.headers.get("sec-fetch-site", "same-origin")
        same = origin is None or _origin_host(origin) == host.lower()
        if not same or site not in ("same-origin", "none"):
            raise ApiError(403, "this request comes from another site's page and was refused")

    def _knows(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        try:
            return bool(given) and self._token is not None and self._token.accepts(given)
        except StateError as error:
            self._warn(str(error))
            raise ApiError(403, "the token file cannot be used now; preforkd's log has the reason") from error

    def _reader_knows(self, request: Request) -> bool:
        """As `_knows`; where all may read, a token file that cannot be used holds no reader up."""
        try:
            return self._knows(request)
        except ApiError:
            if not self._open:
                raise
            return False

    def _unauthorized(self, request: Request, reason: str) -> ApiError:
        if request.headers.get("authorization"):
            self._warn(f"a wrong token was given, from {client(request)}")
            reason += "; the given token is wrong"
        return ApiError(401, f"{reason}: send Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"})

    def _warn(self, text: str) -> None:
        """Log rarely: guesses must not fill the disk."""
        now_s = monotonic_s()
        if now_s >= self._warned_s + _WARN_S:
            self._warned_s = now_s
            logging.getLogger(__name__).warning("%s", text)


def may_read(request: Request) -> bool:
    """Whether the client may see facts about the daemon."""
    return bool(request.scope["state"]["may_read"])


def knows_token(request: Request) -> bool:
    """Whether the client has given the token: it may see what messages contain."""
    return bool(request.scope["state"]["knows_token"])


def _with_headers(send: Send, path: str) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers["cache-control"] = "no-cache" if path == "/" or path.startswith(STATIC) else "no-store"
        await send(message)

    return send_with_headers


def _host_name(host: str) -> str:
    """The name in a Host header, without the port and without an IPv6 address's brackets; "" where it has none."""
    match = _HOST.fullmatch(host.lower())
    return match["name"].strip("[]") if match else ""


def _is_address(name: str, loopback_only: bool) -> bool:
    """Whether this is an address rather than a name, which DNS rebinding could point to this server."""
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not loopback_only


def _origin_host(origin: str) -> str:
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return ""
    return parts.netloc if parts.scheme in ("http", "https") else ""
