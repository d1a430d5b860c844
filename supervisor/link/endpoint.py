"""A channel joined to the reactor: frames are heard as they come; what a slow peer does not take waits in the reactor.

Used by the master for its children (`master/pool/wire.py`), and by the consumer for its workers
(`consumer/workers/links.py`).
"""

from __future__ import annotations

import socket
from typing import Any

from supervisor.link.channel import Channel, ChannelClosed, F, NotUnderstood
from supervisor.system.reactor import Reactor, Watch

_READ, _WRITE = Reactor.READ, Reactor.WRITE


class Endpoint(Channel[F]):
    """One end, non-blocking. Of `refused` and `gone` one is called, once; nothing more is heard then."""

    read_at_once_bytes = 4 * 1024 * 1024
    """Of one peer in one pass of the loop: the others have their turn, whatever it writes."""

    def __init__(self, sock: socket.socket, receives: Any, reactor: Reactor, *channel: Any) -> None:
        """`receives` and what follows in `channel`: as for a Channel."""
        super().__init__(sock, receives, *channel)
        self._watch = Watch(reactor, sock.fileno(), self._ready, reactor.READ)

    def heard(self, frames: list[F]) -> None:
        """Frames have arrived, at least one. Raises NotUnderstood for what cannot be handled."""

    def refused(self, reason: str) -> None:
        """The peer has sent something that is no frame of the channel's, or that cannot be handled."""

    def gone(self) -> None:
        """The peer has hung up."""

    def flush(self) -> bool:
        """Write what the peer takes now; the rest follows as it reads. True when nothing is left."""
        return self._watch.events == _READ and self._write()

    def hear(self) -> None:
        """Take what has arrived."""
        try:
            if self._watch.events and (frames := self.receive(self.read_at_once_bytes)):
                self.heard(frames)
            if self.spoiled is not None and self._watch.events:
                self.confirm()
        except NotUnderstood as error:
            self._watch.want(0)
            self.refused(str(error))
        except ChannelClosed:
            self._watch.want(0)
            self.gone()

    def close(self) -> None:
        """Hang up; what was not flushed is lost."""
        self._watch.want(0)
        super().close()

    def _ready(self, fd: int, events: int) -> None:
        if events & _WRITE:
            self._write()
        if events & ~_WRITE:
            self.hear()

    def _write(self) -> bool:
        try:
            done = Channel.flush(self)
        except ChannelClosed:
            self._watch.want(0)
            self.gone()
            return False
        if done is not (self._watch.events == _READ):
            self._watch.want(_READ if done else _READ | _WRITE)
        return done
