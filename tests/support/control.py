"""A control server with a loop of its own, in a thread, for tests that talk to it over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from supervisor.control import SOCKET_NAME
from supervisor.control.client import ControlClient
from supervisor.control.protocol import Pending, Request, Result
from supervisor.control.server import IDLE_S, ControlServer
from supervisor.system.reactor import Reactor


class Served:
    """What a test sees of a running server. `turns`: how often its loop has turned; `seen`: the requests it obeyed."""

    def __init__(self, runtime_dir: Path, answer: Callable[[Request], Result | Pending]) -> None:
        self.runtime_dir = runtime_dir
        self.path = runtime_dir / SOCKET_NAME
        self.reactor = Reactor()
        self.seen: list[Request] = []
        self.turns = 0
        self._answer = answer
        self._ended = False

    def client(self, timeout_s: float = 20.0) -> ControlClient:
        """The command line's client."""
        return ControlClient(self.runtime_dir, timeout_s)

    def raw(self) -> socket.socket:
        """A bare connection, with a generous timeout on everything."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.path))  # blocking: a non-blocking one fails at once where the backlog is full
        sock.settimeout(20.0)
        return sock

    def call(self, callback: Callable[[], object]) -> None:
        """Run something in the loop's thread, and wait for it."""
        done = threading.Event()

        def call_and_tell() -> None:
            callback()
            done.set()

        self.reactor.add_callback(call_and_tell)
        assert done.wait(20.0), "the loop did not come round"

    def handle(self, request: Request) -> Result | Pending:
        """What the server is given."""
        self.seen.append(request)
        return self._answer(request)

    def run(self) -> None:
        """The loop, until `end`."""
        while not self._ended:
            self.turns += 1
            self.reactor.poll(None)

    def end(self) -> None:
        """Let the loop stop."""
        self._ended = True


@contextmanager
def served(
    runtime_dir: Path, answer: Callable[[Request], Result | Pending], idle_s: float = IDLE_S
) -> Iterator[Served]:
    """A server that answers with `answer`; everything is given back at the end, also when the test has failed."""
    subject = Served(runtime_dir, answer)
    server = ControlServer(subject.path, subject.reactor, subject.handle, idle_s=idle_s)
    thread = threading.Thread(target=subject.run, name="control server under test")
    thread.start()
    try:
        yield subject
    finally:
        subject.call(server.close)
        subject.call(subject.end)
        thread.join(20.0)
        subject.reactor.close()


def read_line(sock: socket.socket) -> bytes:
    """One line; less when the other side hangs up first."""
    data = b""
    while not data.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            break
        data += byte
    return data


def read_to_end(sock: socket.socket) -> bytes:
    """Everything until the other side hangs up."""
    data = b""
    try:
        while more := sock.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data
