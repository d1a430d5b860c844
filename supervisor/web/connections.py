"""Connections of browsers with time limits, on top of uvicorn's HTTP/1.1.

Uvicorn has no limit on the time of a request's arrival, nor of the reading of an answer. Here idle connections are
closed after 15 s, stalled readers after 20 s, and at the limit the longest idle one is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from supervisor.system.clock import monotonic_s

MAX_CONNECTIONS = 200
IDLE_S = 15.0
"""A connection may be without a whole request for so long, also between two."""

STALLED_S = 20.0
"""An answer may be left unread for so long."""

SWEEP_S = 1.0
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nconnection: close\r\nretry-after: 5\r\n\r\n"
    b"too many connections\n"
)


class Connections:
    """All connections of one server."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._state = ServerState()
        self._all: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def factory(self) -> Connection:
        """The protocol of a new connection, for `loop.create_server`."""
        return Connection(self._config, self._state, self._made, self._all.discard)

    def __len__(self) -> int:
        return len(self._all)

    def shut_down(self) -> None:
        """Close idle connections now, the others after their answer."""
        for connection in list(self._all):
            connection.shutdown()

    def _made(self, connection: Connection) -> bool:
        """Whether there is room for one more."""
        if len(self._all) >= MAX_CONNECTIONS and not self._make_room():
            return False
        self._all.add(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_up)
        return True

    def _make_room(self) -> bool:
        idle = [connection for connection in self._all if not connection.busy]
        if not idle:
            return False
        longest = min(idle, key=lambda connection: connection.since_s)
        self._all.discard(longest)
        longest.transport.abort()
        return True

    def _sweep_up(self) -> None:
        now_s = monotonic_s()
        for connection in [each for each in self._all if each.overdue(now_s)]:
            connection.transport.abort()
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_up) if self._all else None


class Connection(H11Protocol):
    """One connection. `since_s`: the time of its begin or of its last complete answer.

    `made(self)` returns whether there is room for it; `lost(self)` is called at its end.
    """

    def __init__(
        self,
        config: Config,
        state: ServerState,
        made: Callable[[Connection], bool],
        lost: Callable[[Connection], object],
    ) -> None:
        super().__init__(config, state, {})
        self._made = made
        self._lost = lost
        self.since_s = monotonic_s()
        self._stalled_s: float | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is being made or read."""
        return self.cycle is not None and not self.cycle.response_complete

    def overdue(self, now_s: float) -> bool:
        """Whether it is idle, or has read nothing of its answer, for too long."""
        if self._stalled_s is not None:
            return now_s - self._stalled_s > STALLED_S
        return not self.busy and now_s - self.since_s > IDLE_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if not self._made(self):
            self.transport.write(_FULL)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop; `exc`: the error, or None."""
        self._lost(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by the loop; `data` after the last answer is ignored."""
        if not self.transport.is_closing():
            super().data_received(data)

    def on_response_complete(self) -> None:
        """Called by uvicorn."""
        self.since_s = monotonic_s()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Called by the loop: the client reads too slowly."""
        self._stalled_s = monotonic_s()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Called by the loop: the client reads again."""
        self._stalled_s = None
        super().resume_writing()
