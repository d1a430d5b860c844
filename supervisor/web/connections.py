"""Connections of browsers with time limits, on top of uvicorn's HTTP/1.1.

Uvicorn has no limit on the time of a request's arrival, nor of the reading of an answer. Here idle connections are
closed after 15 s, stalled readers after 20 s, and at the limit the longest idle one is closed.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 200
IDLE_S = 15.0
"""A connection may be without a whole request for so long, also between two."""

STALLED_S = 20.0
"""An answer may be left unread for so long."""

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nconnection: close\r\nretry-after: 5\r\n\r\n"
    b"too many connections\n"
)


class HttpConnection(H11Protocol):
    """One connection; uvicorn keeps the set of all (`connections`). `timer`: of the limit that applies now."""

    timer: asyncio.TimerHandle
    _stalled = False

    @property
    def busy(self) -> bool:
        """Whether an answer is being made or read."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.timer = self.loop.call_later(IDLE_S, self._expire)
        if len(self.connections) > MAX_CONNECTIONS and not self._make_room():
            self.connections.discard(self)
            self.transport.write(_FULL)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop; `exc`: the error, or None."""
        self.timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by the loop; `data` after the last answer is ignored."""
        if not self.transport.is_closing():
            super().data_received(data)

    def on_response_complete(self) -> None:
        """Called by uvicorn."""
        if not self._stalled:
            self._limit(IDLE_S)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Called by the loop: the client reads too slowly."""
        self._stalled = True
        self._limit(STALLED_S)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Called by the loop: the client reads again."""
        self._stalled = False
        self._limit(IDLE_S)
        super().resume_writing()

    def _limit(self, seconds: float) -> None:
        self.timer.cancel()
        self.timer = self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self._stalled or not self.busy:
            self.transport.abort()

    def _make_room(self) -> bool:
        """Close the longest idle of the other connections; False if all are busy."""
        others = (other for other in self.connections if isinstance(other, HttpConnection) and other is not self)
        longest = min((each for each in others if not each.busy), key=lambda each: each.timer.when(), default=None)
        if longest is None:
            return False
        self.connections.discard(longest)
        longest.transport.abort()
        return True
