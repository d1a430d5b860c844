"""Browsers that misbehave, by the thousand or one by one: supervision does not notice, and the page is there again."""

from __future__ import annotations

import json
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.web import openapi, request_parsing
from supervisor.web.answers import encoded
from supervisor.web.read_endpoints import MAX_READERS
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually
from tests.support.web import TOKEN, Browser, WebChild, token_file, web_child

MANY = 1000
DOCUMENT = json.loads(encoded(openapi.document()))


class Place(NamedTuple):
    """What the tests of this module share."""

    daemon: Daemon
    child: WebChild
    browser: Browser


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("abuse")
    with (
        daemon(directory, 'workers = 2\nrestart_backoff = ["50ms", "100ms"]') as under_test,
        web_child(
            directory,
            under_test.state_dir,
            under_test.runtime_dir,
            module="tests.support.impatient_web",
            token_file=token_file(directory),
        ) as child,
    ):
        yield Place(under_test, child, child.browser)


@pytest.fixture
def room_for_many() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * MANY, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def hung_up(sock: socket.socket) -> bool:
    """Whether the other side has closed it, however; what it said before is thrown away."""
    sock.settimeout(0.01)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


# ---- many -----------------------------------------------------------------------------------------------------------


def test_a_thousand_idle_connections_stop_nothing(place: Place, room_for_many: None) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(place.browser.connect())) for _ in range(MANY)]

        pid = place.daemon.worker()["pid"]
        place.daemon.send("kill", signal.SIGKILL, message_id="dies")
        place.daemon.send("nothing", message_id="flows")
        eventually(lambda: "flows" in place.daemon.marked("done"), "messages flow")
        eventually(lambda: place.daemon.exits(cause="killed"), "a death is recorded")
        eventually(lambda: place.daemon.worker()["state"] in ("idle", "running"), f"{pid} or its successor works")
        assert place.browser.get("/api/status").status == 200
        eventually(lambda: all(hung_up(sock) for sock in idle), "who says nothing is hung up on")
    assert place.browser.get("/healthz").status == 200


def test_readers_of_events_are_counted(place: Place) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_READERS):
            stack.enter_context(place.browser.events())
        refused = place.browser.get("/api/events")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert place.browser.get("/api/status").status == 200
    eventually(lambda: place.browser.ask("HEAD", "/api/events").status == 200, "who left makes room")


# ---- slow -----------------------------------------------------------------------------------------------------------

HEAD = b"Host: 127.0.0.1\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"


UNFINISHED = [
    b"",
    b"GET /healthz HT",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
    b"POST /api/pools/email/scale HTTP/1.1\r\n" + HEAD + b"Content-Length: 100\r\n\r\n{",
    b"POST /api/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
    b"POST /api/pools/email/scale HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
]
"""In the head, in the body, before one, and after an answer."""


def test_who_does_not_finish_a_request_is_hung_up_on(place: Place) -> None:
    with ExitStack() as stack:
        waiting = {beginning: stack.enter_context(closing(place.browser.connect())) for beginning in UNFINISHED}
        for beginning, sock in waiting.items():
            sock.sendall(beginning)
        for beginning, sock in waiting.items():
            eventually(lambda sock=sock: hung_up(sock), f"{beginning!r} is over")


def test_who_drips_is_hung_up_on_however_long_it_drips(place: Place) -> None:
    with closing(place.browser.connect()) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")

        def drip() -> bool:
            with suppress(OSError):
                sock.sendall(b"X: y\r\n")
            return hung_up(sock)

        eventually(drip, "it is over")


def sockets(pid: int) -> int:
    """How many sockets a process has; the file of the exit history is opened in between."""
    return sum(str(link.readlink()).startswith("socket:") for link in Path(f"/proc/{pid}/fd").iterdir())


def test_a_client_that_does_not_read_is_cut_off_and_delays_no_other(place: Place) -> None:
    before = sockets(place.child.process.pid)
    with closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((place.browser.host, place.browser.port))
        sock.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 1000)  # 32 MB, none of it fetched
        eventually(lambda: sockets(place.child.process.pid) > before, "it is served")
        assert place.browser.get("/api/status").status == 200
        eventually(lambda: sockets(place.child.process.pid) <= before, "it is cut off")
    assert place.daemon.status()["state"] == "running"


# ---- malformed ------------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    st.binary(max_size=300) | st.sampled_from([b"GET / HTTP/9.9\r\n\r\n", b"GET http:// HTTP/1.1\r\nHost: [\r\n\r\n"])
)
def test_no_bytes_bring_it_down(place: Place, data: bytes) -> None:
    with closing(place.browser.connect()) as sock:
        sock.sendall(data + b"\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: sock.recv(65536), b""))

    assert b" 500 " not in said.partition(b"\r\n")[0]


def test_a_head_that_does_not_end_is_refused(place: Place) -> None:
    with closing(place.browser.connect()) as sock:
        with suppress(OSError):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000)
        with suppress(ConnectionResetError):
            assert b" 400 " in sock.recv(1000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CHOSEN = st.fixed_dictionaries(
    {"ids": st.lists(st.text(max_size=300), max_size=3) | JSON},
    optional={"kind": st.sampled_from(request_parsing.KINDS) | JSON},
)
BODIES = JSON.map(lambda value: json.dumps(value).encode()) | CHOSEN.map(lambda v: json.dumps(v).encode()) | st.binary()
POOLS = st.sampled_from(["email", "nope"]) | st.text(min_size=1, max_size=20)
VALUES = st.integers(-(10**20), 10**20).map(str) | st.text(max_size=20) | st.sampled_from(["dead", "parked", "crash"])
HARMLESS = sorted(
    (path, method) for path, methods in DOCUMENT["paths"].items() for method in methods if path != "/api/events"
)
"""Every operation that ends; pausing, scaling and reloading do no harm here."""


@settings(max_examples=200)
@given(st.data())
def test_every_operation_answers_whatever_it_is_asked_in_words_that_are_described(place: Place, data: Any) -> None:
    path, method = data.draw(st.sampled_from(HARMLESS))
    operation = DOCUMENT["paths"][path][method]
    query = {each["name"]: data.draw(VALUES) for each in operation.get("parameters", []) if each["in"] == "query"}
    filled = path.replace("{pool}", quoted(data.draw(POOLS))).replace("{file}", quoted(data.draw(st.text(min_size=1))))
    filled += "?" + "&".join(f"{name}={quoted(value)}" for name, value in query.items()) if query else ""
    body = data.draw(BODIES) if "requestBody" in operation else b""

    answer = place.browser.post(filled, body) if method == "post" else place.browser.get(filled)

    undescribed = {"404", "405"}  # a pool whose name has a slash is another path
    assert str(answer.status) in operation["responses"].keys() | undescribed, (filled, body, answer)
    if answer.status >= 400:
        assert answer.json.get("error") or answer.json["ready"] is False


def quoted(text: str) -> str:
    """A text as part of an address, percent-encoded to the last byte."""
    return "".join(f"%{byte:02x}" for byte in text.encode(errors="surrogatepass"))


def test_many_at_once_are_all_answered(place: Place) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(place.browser.get("/api/pools/email/letters").status))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert statuses == [200] * 20
