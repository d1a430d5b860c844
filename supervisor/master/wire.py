"""The master's end of the channel to one child (workers have none), joined to the reactor. Master only.

What is sent leaves at the end of the turn; a child that reads slowly is waited for by the reactor, never by the master.
The end of the stream means nothing here: a child is dead when it was waited for, not when its socket closed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import Frame
from supervisor.reactor import Reactor


class Wire:
    """One child's channel. `handle(frame)` is called for each frame of the union `receives`."""

    def __init__(self, sock: socket.socket, receives: Any, reactor: Reactor, handle: Callable[[Any], None]) -> None:
        self._channel: Channel[Any] = Channel(sock, receives)
        self._reactor = reactor
        self._handle = handle
        self._joined = True
        self._writing = False
        reactor.add_handler(self._channel, self._ready, reactor.READ)

    def send(self, *frames: Frame) -> None:
        """Queue frames; they leave with `flush`."""
        self._channel.send(*frames)

    @property
    def pending_bytes(self) -> int:
        """How much the child has not taken yet."""
        return self._channel.pending_bytes

    def flush(self) -> None:
        """Write what the child takes now; the rest follows as it reads."""
        if not self._joined or not self._channel.pending_bytes:
            return
        try:
            self._wait_for_room(not self._channel.flush())
        except ChannelClosed:
            self._leave()

    def close(self) -> None:
        """The child is dead: read what it still said, then give the socket back."""
        if self._joined:
            self._receive()
        self._leave()
        self._channel.close()

    def _ready(self, fd: int, events: int) -> None:
        if events & self._reactor.WRITE:
            self.flush()
        if events & ~self._reactor.WRITE:
            self._receive()

    def _receive(self) -> None:
        try:
            frames = self._channel.receive()
        except ChannelClosed:
            self._leave()
            return
        for frame in frames:
            self._handle(frame)

    def _wait_for_room(self, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            self._reactor.update_handler(self._channel, self._reactor.READ | (self._reactor.WRITE if wanted else 0))

    def _leave(self) -> None:
        if self._joined:
            self._joined = False
            self._reactor.remove_handler(self._channel)
