"""The web child beside a daemon, started as the master starts it, and a browser without a head or a body: HTTP."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.config.schema import BrokerConfig, HooksConfig, LogConfig, WebConfig
from supervisor.link.channel import Channel, ChannelClosed, send_with_descriptors
from supervisor.link.frames import VERSION, Quit, Refused, Serving, SidecarReport, StartSidecar
from tests.support.daemon import ROOT
from tests.support.waiting import eventually

TOKEN = "correct-horse-battery-staple"
_TIMEOUT_S = 30.0


class Answer(NamedTuple):
    """An HTTP answer, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """Its body, read."""
        return json.loads(self.body)


class Browser:
    """Asks one server; each request on a connection of its own."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def get(self, path: str, **headers: str) -> Answer:
        """What a GET brings; `headers` with _ for -."""
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, token: str | None = TOKEN, **headers: str) -> Answer:
        """What a POST of a JSON value, or of these very bytes, brings."""
        authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.ask("POST", path, data, **authorization, **headers)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Any request."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection((self.host, self.port), _TIMEOUT_S)

    @contextmanager
    def events(self, **headers: str) -> Iterator[Iterator[tuple[str, Any]]]:
        """The events of the stream, (name, data), as they come."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)) as connection:
            connection.request("GET", "/api/events", headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield _events(answer)


class WebChild:
    """One web child and our end of its channel, which is the master's in real life."""

    def __init__(
        self, directory: Path, state_dir: Path, runtime_dir: Path, web: WebConfig, module: str, path: str
    ) -> None:
        self.log_path = directory / "web.log"
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "SPT_NOENV": "1", "PYTHONPATH": path}
        with self.log_path.open("ab") as log, theirs:
            command = [sys.executable, "-P", "-m", module, str(theirs.fileno())]
            self.process = subprocess.Popen(
                command, cwd=ROOT, pass_fds=[theirs.fileno()], stdout=log, stderr=log, env=environment
            )
        first = StartSidecar(
            version=VERSION,
            web=web,
            hooks=HooksConfig(),
            broker=BrokerConfig(),
            log=LogConfig(level="debug", format="json"),
            state_dir=str(state_dir),
            runtime_dir=str(runtime_dir),
            source="",
            master_pid=os.getpid(),
        )
        send_with_descriptors(ours, first, [])
        self.channel: Channel[Serving | Refused] = Channel(ours, SidecarReport)
        self.report = eventually(self._reported, "the web child has said something")

    @property
    def browser(self) -> Browser:
        """A browser for the address that it said."""
        assert isinstance(self.report, Serving), self.report
        host, _, port = self.report.what.removeprefix("on http://").rpartition(":")
        return Browser(host.strip("[]"), int(port))

    def log(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of an event."""
        lines = [json.loads(line) for line in self.log_path.read_bytes().splitlines() if line.startswith(b"{")]
        return [line for line in lines if line["event"] == event]

    def quit(self) -> int:
        """Ask it to leave, as the master does; its exit status."""
        self.channel.send(Quit())
        self.channel.flush()
        return self.process.wait(_TIMEOUT_S)

    def close(self) -> None:
        """End it."""
        self.channel.close()
        self.process.kill()
        self.process.wait()

    def _reported(self) -> Serving | Refused | None:
        try:
            return next(iter(self.channel.receive()), None)
        except ChannelClosed:
            raise AssertionError(f"the web child ended: {self.log_path.read_text()}") from None


@contextmanager
def web_child(
    directory: Path,
    state_dir: Path,
    runtime_dir: Path,
    module: str = "supervisor.web",
    path: str = str(ROOT),
    **settings: str,
) -> Iterator[WebChild]:
    """A web child on a free port, gone at the end. `settings`: of [web]; `path`: where it finds modules."""
    web = WebConfig(**{"listen": "127.0.0.1:0"} | settings)
    child = WebChild(directory, state_dir, runtime_dir, web, module, path)
    try:
        yield child
    finally:
        child.close()


def token_file(directory: Path, token: str = TOKEN) -> str:
    """A file with the token, fit for use."""
    path = directory / "token"
    path.write_text(token + "\n")
    path.chmod(0o600)
    return str(path)


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    name = ""
    while line := answer.readline():
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)
