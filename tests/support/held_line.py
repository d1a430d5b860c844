"""A line between a client and its database server that can be held: the client dies, and the server does not notice.

It runs in threads of the test process. What the client has sent since `hold` reaches the server at `release`, as with
packets that are still on their way when their sender is gone.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class HeldLine:
    """Listens on a port of its own, for one connection. `held_bytes`: how much waits for `release`."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._guard = threading.Lock()
        self._is_held = False
        self._held = b""
        self._threads = [threading.Thread(target=self._connect, daemon=True)]
        self._threads[0].start()

    @property
    def held_bytes(self) -> int:
        """What the client has sent since `hold`."""
        return len(self._held)

    def hold(self) -> None:
        """From now on the server hears nothing, not even that its client is gone."""
        with self._guard:
            self._is_held = True

    def release(self) -> None:
        """The server gets what was held, then the end of the connection."""
        with self._guard, suppress(OSError):
            server = self._sockets[1]
            server.sendall(self._held)
            server.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End everything, threads included."""
        for sock in (self._listener, *self._sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(10)

    def _connect(self) -> None:
        with suppress(OSError):
            client, _address = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets += [client, server]
            back = threading.Thread(target=self._to_client, args=(server, client), daemon=True)
            self._threads.append(back)
            back.start()
            self._to_server(client, server)

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                with self._guard:
                    if self._is_held:
                        self._held += data
                    else:
                        server.sendall(data)
        with self._guard, suppress(OSError):
            if not self._is_held:
                server.shutdown(socket.SHUT_WR)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                with suppress(OSError):
                    client.sendall(data)


@contextmanager
def held_line(server_port: int) -> Iterator[HeldLine]:
    """A line that is gone at the end, whatever happens in between."""
    line = HeldLine(server_port)
    try:
        yield line
    finally:
        line.close()
