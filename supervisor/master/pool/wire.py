"""The master's end of the channel to one child (workers have none), joined to the reactor. Master only.

What is sent leaves at the end of the turn; a child that reads slowly is waited for by the reactor, never by the master.
The end of the stream means nothing here: a child is dead when it was waited for, not when its socket closed. Nothing
that a child sends may leave this file as an exception: it would end the master, and with it all pools.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from supervisor.link.channel import Channel, ChannelClosed, NotUnderstood
from supervisor.link.frames import Frame
from supervisor.system.reactor import Reactor

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Far above what a child reports: stacks and traces of some messages."""

READ_AT_ONCE_BYTES = 1024 * 1024
"""Of one child in one pass of the loop: the others have their turn, whatever it writes."""


class Wire:
    """One child's channel. `handle(frame)` is called for each frame of the union `receives`.

    `refuse(reason)` is called once, when the child has sent what is no such frame, or what cannot be handled; nothing
    more is heard of it then. `unsent`: the rest of the child's first frame (`spawn.py`).
    """

    def __init__(
        self,
        sock: socket.socket,
        receives: Any,
        reactor: Reactor,
        handle: Callable[[Any], None],
        refuse: Callable[[str], None],
        unsent: bytes = b"",
    ) -> None:
        self._channel: Channel[Any] = Channel(sock, receives, MAX_FRAME_BYTES, unsent)
        self._reactor = reactor
        self._handle = handle
        self._refuse = refuse
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
            for frame in self._channel.receive(READ_AT_ONCE_BYTES):
                self._take(frame)
            self._channel.confirm()
        except NotUnderstood as error:
            self._leave()
            self._refuse(str(error))
        except ChannelClosed:
            self._leave()

    def _take(self, frame: Frame) -> None:
        """Raises NotUnderstood for a frame that its handler fails on, too."""
        try:
            self._handle(frame)
        except Exception as error:
            raise NotUnderstood(f"{type(frame).__name__} cannot be handled: {error!r}") from error

    def _wait_for_room(self, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            self._reactor.update_handler(self._channel, self._reactor.READ | (self._reactor.WRITE if wanted else 0))

    def _leave(self) -> None:
        if self._joined:
            self._joined = False
            self._reactor.remove_handler(self._channel)
