"""The consumer's ends of its workers' sockets: accepts, greets, reads frames into an inbox, writes what a turn decided.

A link that closes proves nothing (a grandchild may hold the socket, the worker may reconnect): it is forgotten here.
Peers of another user are turned away (SO_PEERCRED).
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

from supervisor.link.channel import Channel, ChannelClosed, NotUnderstood
from supervisor.link.frames import VERSION, ConsumerFrame, Hello, Incarnation, Misunderstood, Recall, WorkerFrame
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.system.listening import Listener, peer_of
from supervisor.system.reactor import Reactor

READ_AT_ONCE_BYTES = 4 * 1024 * 1024
"""Of one worker in one pass of the loop: broker and other workers have their turn, whatever it writes."""

_REASON_CHARACTERS = 500


class WorkerLinks:
    """All links of one consumer. `inbox` holds what was heard, in order, until the consumer takes it."""

    def __init__(self, listener: socket.socket, reactor: Reactor) -> None:
        self.inbox: list[tuple[Incarnation, WorkerFrame]] = []
        self.greeted: dict[Incarnation, Channel[WorkerFrame]] = {}
        self._reactor = reactor
        self._strangers: dict[Channel[WorkerFrame], int] = {}  # connected, no Hello yet; and their pids
        self._pids: dict[Incarnation, int] = {}
        self._misunderstood: list[Misunderstood] = []
        self._writing: set[Incarnation] = set()  # waiting for their sockets to take more
        self._unflushed: set[Incarnation] = set()
        self._listener = Listener(listener, "link socket", reactor, self._admit)

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

    def retire(self, worker: Incarnation) -> None:
        """Ask a worker to give back what it has not begun, and to leave."""
        self.send(worker, Recall(leave=True))

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
        self._pids.pop(worker, None)
        self._writing.discard(worker)
        if channel is not None:
            self._close(channel)

    def refuse(self, worker: Incarnation, reason: str) -> None:
        """A worker has sent what cannot be understood: forget its link; the master is to end it."""
        pid = self._pids.get(worker)
        if pid is not None:
            self._misunderstood.append(Misunderstood(worker, pid, reason[:_REASON_CHARACTERS]))
        self.drop(worker)

    def take_misunderstood(self) -> list[Misunderstood]:
        """Reports for the master about workers that were refused since the last call."""
        taken, self._misunderstood = self._misunderstood, []
        return taken

    def close(self) -> None:
        """Close all links; the listening socket belongs to the master and stays."""
        self._listener.close()
        for worker in list(self.greeted):
            self.drop(worker)
        for channel in list(self._strangers):
            self._close(channel)

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _admit(self, sock: socket.socket) -> None:
        pid, uid = peer_of(sock)
        if uid != os.geteuid():
            sock.close()
            return
        channel: Channel[WorkerFrame] = Channel(sock, WorkerFrame)
        self._strangers[channel] = pid
        self._reactor.add_handler(channel, lambda _fd, events: self._stranger(channel), self._reactor.READ)

    def _stranger(self, channel: Channel[WorkerFrame]) -> None:
        """The first frame must be a Hello of our own build, from the process that it names."""
        try:
            frames = channel.receive(READ_AT_ONCE_BYTES)
        except ChannelClosed as error:
            if isinstance(error, NotUnderstood):
                self._turn_away(channel, str(error))
            self._close(channel)
            return
        if not frames:
            return
        hello, pid = frames[0], self._strangers[channel]
        if not isinstance(hello, Hello) or hello.version != VERSION or hello.pid != pid:
            self._turn_away(channel, "its first frame is no Hello of this build, or names another process")
            self._close(channel)
            return
        worker = Incarnation(hello.slot, hello.generation)
        self.drop(worker)
        del self._strangers[channel]
        self.greeted[worker], self._pids[worker] = channel, pid
        self._reactor.remove_handler(channel)
        self._reactor.add_handler(channel, lambda _fd, events: self._ready(worker, events), self._reactor.READ)
        self.inbox.extend((worker, frame) for frame in frames)
        if channel.spoiled is not None:
            self.refuse(worker, str(channel.spoiled))

    def _turn_away(self, channel: Channel[WorkerFrame], reason: str) -> None:
        pid = self._strangers[channel]
        text = f"a process at the link socket (pid {pid}) is turned away: {reason}"
        log(Event.FRAME_REFUSED, text, level=logging.WARNING, peer=pid, reason=reason)

    def _ready(self, worker: Incarnation, events: int) -> None:
        channel = self.greeted[worker]
        try:
            if events & self._reactor.WRITE and channel.flush():
                self._writing.discard(worker)
                self._reactor.update_handler(channel, self._reactor.READ)
            if events & ~self._reactor.WRITE:
                self.inbox += [(worker, frame) for frame in channel.receive(READ_AT_ONCE_BYTES)]
                channel.confirm()
        except NotUnderstood as error:
            self.refuse(worker, str(error))
        except ChannelClosed:
            self.drop(worker)

    def _close(self, channel: Channel[Any]) -> None:
        self._strangers.pop(channel, None)
        self._reactor.remove_handler(channel)
        channel.close()
