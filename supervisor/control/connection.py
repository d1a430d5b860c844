"""One client of the control socket: its bytes in and out. Runs in the master, as callbacks of its reactor.

A request is read only after the answer to the one before it was sent, so memory per client is bounded: 64 KiB of a
request, one answer. Nothing here blocks, or raises for a client's actions.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from supervisor.control.protocol import MAX_REQUEST_BYTES, Pending, Result, answer_line, error_line
from supervisor.errors import ControlError, PreforkdError
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor, Watch

Obey = Callable[[bytes], Result | Pending | PreforkdError]
TakeTurn = Callable[["Connection"], object]
"""Queues the connection: its `obey()` is called once, in a later pass of the loop."""

_READ_BYTES = 16 * 1024


class Connection:
    """An accepted client.

    `answer(line)` carries a request out; `take_turn(self)` queues this connection for `obey()`; `on_close()` is
    called once, when the client has closed or was dropped; `idle_s`: as `server.IDLE_S`.
    """

    def __init__(
        self,
        peer: socket.socket,
        reactor: Reactor,
        answer: Obey,
        take_turn: TakeTurn,
        on_close: Callable[[], object],
        idle_s: float,
    ) -> None:
        peer.setblocking(False)
        self._socket = peer
        self._reactor = reactor
        self._answer = answer
        self._take_turn = take_turn
        self._on_close = on_close
        self._idle_s = idle_s
        self._incoming = b""
        self._outgoing = b""
        self._ended = False  # the client has sent its last byte; it may still read
        self._waiting = False  # a Pending is not completed
        self._queued = False  # `obey()` will be called
        self._closed = False
        self.since_s = monotonic_s()
        """The time of the last byte in or out (CLOCK_MONOTONIC)."""
        self._drop_timer = reactor.call_later(idle_s, self._drop_if_idle)
        self._watch = Watch(reactor, peer.fileno(), self._ready)
        self._want()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered or queued."""
        return not (self._waiting or self._outgoing or self._queued)

    @property
    def owing(self) -> bool:
        """Whether a part of an answer is not sent yet."""
        return bool(self._outgoing)

    def obey(self) -> None:
        """Carry out the waiting request. Called by the server."""
        self._queued = False
        if self._line_waits and self.idle and not self._closed:
            line, _newline, self._incoming = self._incoming.partition(b"\n")
            self._obey(line)
        self._go_on()

    def drop(self, reason: str) -> None:
        """Close the connection, with the reason as an error line unless an answer is being sent."""
        if self.idle:
            self._refuse(reason)
        else:
            self.close()

    def close(self) -> None:
        """Close the connection; an unsent answer is lost. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._reactor.remove_timeout(self._drop_timer)
        self._watch.want(0)
        self._socket.close()
        self._on_close()

    # ---- callbacks -----------------------------------------------------------------------------------------

    def _ready(self, fd: int, events: int) -> None:
        if events & self._reactor.ERROR and self._outgoing:  # the client is gone
            self.close()
        elif events & self._reactor.WRITE:
            self._write()
        else:
            self._read()
        self._go_on()

    def _drop_if_idle(self) -> None:
        quiet_s = monotonic_s() - self.since_s
        if quiet_s >= self._idle_s and (self.idle or self._outgoing):
            self.drop(f"no request came on this connection for {quiet_s:.0f} s: connect again")
        else:
            left_s = max(self._idle_s - quiet_s, self._idle_s / 4)
            self._drop_timer = self._reactor.call_later(left_s, self._drop_if_idle)

    def _deliver(self, line: bytes) -> None:
        """Send the line of a completed Pending at once, because the master may be about to end."""
        if not self._closed:
            self._waiting = False
            self._outgoing += line
            self._write()
            self._reactor.add_callback(self._go_on)

    # ---- inside --------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Wait for the next event, or close the connection after its last answer."""
        if self._closed:
            return
        if len(self._incoming) > MAX_REQUEST_BYTES and not self._line_waits:
            self._refuse(f"a request is at most {MAX_REQUEST_BYTES} bytes")
        elif self._ended and self.idle and not self._line_waits:
            self.close()
        else:
            self._want()

    @property
    def _line_waits(self) -> bool:
        return self._incoming.find(b"\n", 0, MAX_REQUEST_BYTES + 1) >= 0

    def _obey(self, line: bytes) -> None:
        self.since_s = monotonic_s()
        outcome = self._answer(line)
        if isinstance(outcome, Pending):
            self._waiting = True
            self._outgoing += answer_line(outcome.first) if outcome.first is not None else b""
            outcome.attach(self._deliver)
        elif isinstance(outcome, PreforkdError):
            self._outgoing += error_line(outcome)
        else:
            self._outgoing += answer_line(outcome)
        self._write()

    def _refuse(self, reason: str) -> None:
        """Send the reason, as far as the socket accepts it, and close: later bytes cannot be trusted."""
        self._outgoing += error_line(ControlError(reason))
        self._write()
        self.close()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._incoming += data
        if not data:
            self._ended = True
            self._incoming += b"\n" if self._incoming else b""  # the last line may lack its newline

    def _write(self) -> None:
        if not self._outgoing or self._closed:
            return
        try:
            sent = self._socket.send(self._outgoing)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._outgoing = self._outgoing[sent:]
        self.since_s = monotonic_s()

    def _want(self) -> None:
        """Watch for reading or writing; for neither while a request is unfinished, as epoll spins on a hang-up."""
        wanted = self._reactor.READ
        if self._outgoing:
            wanted = self._reactor.WRITE
        elif self._ended or self._line_waits:
            wanted = 0
            if self.idle:
                self._queued = True
                self._take_turn(self)
        self._watch.want(wanted)
