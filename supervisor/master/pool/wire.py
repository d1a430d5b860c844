"""The master's end of the channel to one child (workers have none). Master only.

The end of the stream means nothing here: a child is dead when it was waited for, not when its socket closed. Nothing
that a child sends may leave this file as an exception: it would end the master, and with it all pools.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from supervisor.link.channel import NotUnderstood
from supervisor.link.endpoint import Endpoint
from supervisor.link.frames import Frame
from supervisor.system.reactor import Reactor

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Far above what a child reports: stacks and traces of some messages."""


class Wire(Endpoint[Frame]):
    """One child's channel. `handle(frame)` is called for each frame of the union `receives`.

    `refuse(reason)` is called once, when the child has sent something that is no such frame, or that cannot be handled.
    `unsent`: the rest of the child's first frame (`spawn.py`).
    """

    read_at_once_bytes = 1024 * 1024

    def __init__(
        self,
        sock: socket.socket,
        receives: Any,
        reactor: Reactor,
        handle: Callable[[Any], None],
        refuse: Callable[[str], None],
        unsent: bytes = b"",
    ) -> None:
        super().__init__(sock, receives, reactor, MAX_FRAME_BYTES, unsent)
        self._handle = handle
        self._refuse = refuse

    def heard(self, frames: list[Frame]) -> None:
        """Raises NotUnderstood for a frame that its handler fails on."""
        for frame in frames:
            try:
                self._handle(frame)
            except Exception as error:
                raise NotUnderstood(f"{type(frame).__name__} cannot be handled: {error!r}") from error

    def refused(self, reason: str) -> None:
        """End the child."""
        self._refuse(reason)

    def close(self) -> None:
        """The child is dead: read what it still said, then give the socket back."""
        self.hear()
        super().close()
