"""The consumer's ends of its workers' sockets: accepts, greets, reads frames into an inbox, writes what a turn decided.

A link that closes proves nothing (a grandchild may hold the socket, the worker may reconnect): it is forgotten here.
Peers of another user are turned away (SO_PEERCRED).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import VERSION, ConsumerFrame, Hello, Incarnation, WorkerFrame
from supervisor.reactor import Reactor

_UCRED = struct.Struct("3i")


class WorkerLinks:
    """All links of one consumer. `inbox` holds what was heard, in order, until the consumer takes it."""

    def __init__(self, listener: socket.socket, reactor: Reactor) -> None:
        self.inbox: list[tuple[Incarnation, WorkerFrame]] = []
        self.greeted: dict[Incarnation, Channel[WorkerFrame]] = {}
        self._listener = listener
        self._reactor = reactor
        self._strangers: set[Channel[WorkerFrame]] = set()  # connected, no Hello yet
        self._writing: set[Incarnation] = set()  # waiting for their sockets to take more
        self._unflushed: set[Incarnation] = set()
        listener.setblocking(False)
        reactor.add_handler(listener, self._accept, reactor.READ)

    def take(self) -> list[tuple[Incarnation, WorkerFrame]]:
        """What was heard since the last call."""
        heard, self.inbox = self.inbox, []
        return heard

    def send(self, worker: Incarnation, frame: ConsumerFrame) -> None:
        """Queue a frame; silently nothing for a worker that is not connected (its Hello will tell what it has)."""
        channel = self.greeted.get(worker)
        if channel is not None:
            channel.send(frame)
            self._unflushed.add(worker)

    def flush(self) -> None:
        """Write what was queued, as far as the sockets take it."""
        unflushed, self._unflushed = self._unflushed, set()
        for worker in unflushed - self._writing:
            channel = self.greeted.get(worker)
            if channel is None:
                continue
            try:
                if not channel.flush():
                    self._writing.add(worker)
                    self._reactor.update_handler(channel, self._reactor.READ | self._reactor.WRITE)
            except ChannelClosed:
                self.drop(worker)

    def drop(self, worker: Incarnation) -> None:
        """Forget a link."""
        channel = self.greeted.pop(worker, None)
        self._writing.discard(worker)
        if channel is not None:
            self._close(channel)

    def close(self) -> None:
        """Close all links; the listening socket belongs to the master and stays."""
        self._reactor.remove_handler(self._listener)
        for worker in list(self.greeted):
            self.drop(worker)
        for channel in list(self._strangers):
            self._close(channel)

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _accept(self, fd: int, events: int) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError:
            return  # gone again, or no descriptor free: the worker tries again
        _pid, uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != os.geteuid():
            sock.close()
            return
        channel: Channel[WorkerFrame] = Channel(sock, WorkerFrame)
        self._strangers.add(channel)
        self._reactor.add_handler(channel, lambda _fd, events: self._stranger(channel), self._reactor.READ)

    def _stranger(self, channel: Channel[WorkerFrame]) -> None:
        """The first frame must be a Hello of our own version."""
        try:
            frames = channel.receive()
        except ChannelClosed:
            self._close(channel)
            return
        if not frames:
            return
        hello = frames[0]
        if not isinstance(hello, Hello) or hello.version != VERSION:
            self._close(channel)
            return
        worker = Incarnation(hello.slot, hello.generation)
        self.drop(worker)
        self._strangers.discard(channel)
        self.greeted[worker] = channel
        self._reactor.remove_handler(channel)
        self._reactor.add_handler(channel, lambda _fd, events: self._ready(worker, events), self._reactor.READ)
        self.inbox.extend((worker, frame) for frame in frames)

    def _ready(self, worker: Incarnation, events: int) -> None:
        channel = self.greeted[worker]
        try:
            if events & self._reactor.WRITE and channel.flush():
                self._writing.discard(worker)
                self._reactor.update_handler(channel, self._reactor.READ)
            if events & ~self._reactor.WRITE:
                self.inbox.extend((worker, frame) for frame in channel.receive())
        except ChannelClosed:
            self.drop(worker)

    def _close(self, channel: Channel[Any]) -> None:
        self._strangers.discard(channel)
        self._reactor.remove_handler(channel)
        channel.close()
