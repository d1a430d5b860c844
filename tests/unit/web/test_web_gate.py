"""Who gets in: by Host, Origin and token, on loopback and elsewhere; and what every answer carries."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from supervisor.config.schema import WebConfig
from supervisor.web.auth_middleware import FREE, HEADERS, AuthMiddleware, knows_token, may_read
from supervisor.web.token_file import Token, TokenFile

TOKEN = "correct-horse-battery-staple"
RIGHT = f"Bearer {TOKEN}"
LOOPBACK, OPEN = "127.0.0.1", "192.0.2.7"


class Asked:
    """The middleware with an application behind it that answers each request it gets."""

    def __init__(self, host: str, token: Token | None, *allowed: str) -> None:
        self._gate = AuthMiddleware(self._inside, WebConfig(f"{host}:9750", allowed_hosts=allowed), token)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("inside")(scope, receive, send)

    def ask(self, method: str, path: str, host: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of the answer."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request"}

        named = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
        raw = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"scheme": "http", "server": (host, 80), "client": ("198.51.100.1", 1), "headers": raw, "state": {}}
        asyncio.run(self._gate(scope, receive, send))
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], told, b"".join(each.get("body", b"") for each in sent[1:]).decode()

    def status(self, method: str, path: str, host: str, **headers: str) -> int:
        """Status of the answer."""
        return self.ask(method, path, host, **headers)[0]


@pytest.fixture
def token(tmp_path: Path) -> TokenFile:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return TokenFile(path)


@pytest.fixture
def loopback(token: TokenFile) -> Asked:
    return Asked(LOOPBACK, token)


@pytest.fixture
def reachable(token: TokenFile) -> Asked:
    return Asked(OPEN, token)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9750", "localhost", "LocalHost:8000", "[::1]:9750", "127.1.2.3"]
)
def test_all_clients_on_this_machine_may_read(loopback: Asked, host: str) -> None:
    assert loopback.status("GET", "/api/status", host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9750",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "192.0.2.7",
        "[",
        "]",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_was_made_to_point_here_is_refused(loopback: Asked, host: str, method: str) -> None:
    status, _, body = loopback.ask(method, "/", host, authorization=RIGHT)

    assert status == 421
    assert "Host" in json.loads(body)["error"]


ALLOWED = ("preforkd", "Proxy.Example", "*.svc.cluster.local")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("preforkd:9750", 200),
        ("PREFORKD", 200),
        ("proxy.example", 200),
        ("preforkd-0.preforkd.default.svc.cluster.local:9750", 200),
        ("svc.cluster.local", 421),
        ("evilsvc.cluster.local", 421),
        ("preforkd.evil.example", 421),
        ("evil.example", 421),
    ],
)
@pytest.mark.parametrize("listen", [LOOPBACK, OPEN])
def test_names_of_services_are_allowed_by_the_configuration(
    token: TokenFile, listen: str, host: str, status: int
) -> None:
    assert Asked(listen, token, *ALLOWED).status("GET", "/", host) == status


@pytest.mark.parametrize("host", ["192.0.2.7:9750", "10.0.0.1", "[2001:db8::1]:9750"])
def test_an_address_cannot_be_made_to_point_here(reachable: Asked, host: str) -> None:
    assert reachable.status("GET", "/", host) == 200


@pytest.mark.parametrize("path", ["/api/status", "/metrics", "/api/events", "/api/pools/email/letters", "/staticx"])
def test_where_others_can_reach_it_reading_needs_the_token(reachable: Asked, path: str) -> None:
    assert reachable.status("GET", path, OPEN) == 401
    assert reachable.status("HEAD", path, OPEN, authorization="Bearer wrong") == 401
    assert reachable.status("GET", path, OPEN, authorization=RIGHT) == 200


@pytest.mark.parametrize("path", [*FREE, "/static/app.js"])
def test_what_tells_nothing_is_free(reachable: Asked, path: str) -> None:
    assert reachable.status("GET", path, OPEN) == 200


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer ä"]
)
def test_acting_needs_the_token(loopback: Asked, given: str) -> None:
    status, headers, body = loopback.ask("POST", "/api/reload", LOOPBACK, authorization=given)

    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in body


@pytest.mark.parametrize("given", [RIGHT, f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_with_the_token_one_acts(loopback: Asked, given: str) -> None:
    assert loopback.status("POST", "/api/reload", LOOPBACK, authorization=given) == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "NEVERHEARD"])
def test_whatever_does_not_read_acts(loopback: Asked, method: str) -> None:
    assert loopback.status(method, "/api/status", LOOPBACK) == 401


def test_without_a_token_file_no_action_is_allowed_and_the_answer_tells_how() -> None:
    status, _, body = Asked(LOOPBACK, None).ask("POST", "/api/reload", LOOPBACK, authorization=RIGHT)

    assert status == 403
    assert "[web] token_file" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"origin": "file://127.0.0.1"},
        {"origin": "http://["},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_another_sites_page_does_not_act(loopback: Asked, headers: dict[str, str]) -> None:
    status, _, body = loopback.ask("POST", "/api/reload", LOOPBACK, authorization=RIGHT, **headers)

    assert status == 403
    assert "another site" in body


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://127.0.0.1"},
        {"origin": "https://127.0.0.1"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
def test_our_own_page_does(loopback: Asked, headers: dict[str, str]) -> None:
    assert loopback.status("POST", "/api/reload", LOOPBACK, authorization=RIGHT, **headers) == 200


@pytest.mark.parametrize("host", [LOOPBACK, "evil.example"])
def test_every_answer_tells_browsers_what_they_may_do(loopback: Asked, host: str) -> None:
    _, headers, _ = loopback.ask("GET", "/api/status", host)

    assert HEADERS.items() <= headers.items()
    assert headers["cache-control"] == "no-store"
    assert "unsafe" not in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_a_token_file_that_has_become_unusable_lets_no_request_in(loopback: Asked, tmp_path: Path) -> None:
    (tmp_path / "token").chmod(0o666)

    status, _, body = loopback.ask("POST", "/api/reload", LOOPBACK, authorization=RIGHT)

    assert status == 403
    assert "log" in json.loads(body)["error"]


def test_guessing_does_not_fill_the_log(loopback: Asked, caplog: pytest.LogCaptureFixture) -> None:
    for guess in range(50):
        loopback.ask("POST", "/api/reload", LOOPBACK, authorization=f"Bearer secret-guess-{guess}")

    (line,) = caplog.messages
    assert "198.51.100.1" in line
    assert "guess-" not in line


def test_what_is_passed_on_says_whether_its_sender_may_read(reachable: Asked, monkeypatch: Any) -> None:
    assert rights(reachable, OPEN, monkeypatch) == [(False, False), (True, True)]


def test_all_users_of_the_machine_may_read_and_only_the_token_shows_what_messages_contain(
    loopback: Asked, monkeypatch: Any, tmp_path: Path
) -> None:
    assert rights(loopback, LOOPBACK, monkeypatch) == [(True, False), (True, True)]
    (tmp_path / "token").unlink()
    assert rights(loopback, LOOPBACK, monkeypatch) == [(True, False), (True, False)], "and no reader is refused"


def rights(asked: Asked, host: str, monkeypatch: Any) -> list[tuple[bool, bool]]:
    """`may_read` and `knows_token`, as they are passed on without the token and with it."""
    seen: list[tuple[bool, bool]] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        seen.append((may_read(request), knows_token(request)))
        await PlainTextResponse("")(scope, receive, send)

    monkeypatch.setattr(asked._gate, "_app", look)
    asked.ask("GET", "/readyz", host)
    asked.ask("GET", "/readyz", host, authorization=RIGHT)
    return seen
