"""The consumer's ends of its workers' sockets: accepts, greets, reads frames into an inbox, writes what a turn decided.

A link that closes proves nothing (a grandchild may hold the socket, the worker may reconnect): it is forgotten here.
Peers of another user are turned away (SO_PEERCRED).
"""

from __future__ import annotations

import logging
import os
import socket

from supervisor.link.channel import NotUnderstood
from supervisor.link.endpoint import Endpoint
from supervisor.link.frames import VERSION, ConsumerFrame, Hello, Incarnation, Misunderstood, Recall, WorkerFrame
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.system.listening import Listener, peer_of
from supervisor.system.reactor import Reactor

_REASON_CHARACTERS = 500


class _Link(Endpoint[WorkerFrame]):
    """One connected process. `worker` is None until its Hello."""

    def __init__(self, sock: socket.socket, reactor: Reactor, pid: int, links: WorkerLinks) -> None:
        super().__init__(sock, WorkerFrame, reactor)
        self.pid = pid
        self.worker: Incarnation | None = None
        self._links = links

    def heard(self, frames: list[WorkerFrame]) -> None:
        worker = self.worker or self._greet(frames[0])
        self._links.inbox += [(worker, frame) for frame in frames]

    def refused(self, reason: str) -> None:
        if self.worker is not None:
            self._links.refuse(self.worker, reason)
            return
        text = f"a process at the link socket (pid {self.pid}) is turned away: {reason}"
        log(Event.FRAME_REFUSED, text, level=logging.WARNING, peer=self.pid, reason=reason)
        self.gone()

    def gone(self) -> None:
        self._links.forget(self)

    def _greet(self, hello: WorkerFrame) -> Incarnation:
        """The first frame must be a Hello of our own build, from the process that it names."""
        if not isinstance(hello, Hello) or hello.version != VERSION or hello.pid != self.pid:
            raise NotUnderstood("its first frame is no Hello of this build, or names another process")
        self.worker = worker = Incarnation(hello.slot, hello.generation)
        self._links.drop(worker)
        self._links.greeted[worker] = self
        return worker


class WorkerLinks:
    """All links of one consumer. `inbox` holds what was heard, in order, until the consumer takes it."""

    def __init__(self, listener: socket.socket, reactor: Reactor) -> None:
        self.inbox: list[tuple[Incarnation, WorkerFrame]] = []
        self.greeted: dict[Incarnation, _Link] = {}
        self._reactor = reactor
        self._all: set[_Link] = set()
        self._unflushed: set[_Link] = set()
        self._misunderstood: list[Misunderstood] = []
        self._listener = Listener(listener, "link socket", reactor, self._admit)

    def take(self) -> list[tuple[Incarnation, WorkerFrame]]:
        """What was heard since the last call."""
        heard, self.inbox = self.inbox, []
        return heard

    def send(self, worker: Incarnation, frame: ConsumerFrame) -> None:
        """Queue a frame; silently nothing for a worker that is not connected (its Hello will tell what it has)."""
        link = self.greeted.get(worker)
        if link is not None:
            link.send(frame)
            self._unflushed.add(link)

    def retire(self, worker: Incarnation) -> None:
        """Ask a worker to give back what it has not begun, and to leave."""
        self.send(worker, Recall(leave=True))

    def flush(self) -> None:
        """Write what was queued, as far as the sockets take it."""
        unflushed, self._unflushed = self._unflushed, set()
        for link in unflushed:
            link.flush()

    def drop(self, worker: Incarnation) -> None:
        """Forget a link."""
        link = self.greeted.get(worker)
        if link is not None:
            self.forget(link)

    def refuse(self, worker: Incarnation, reason: str) -> None:
        """A worker has sent what cannot be understood: forget its link; the master is to end it."""
        link = self.greeted.get(worker)
        if link is not None:
            self._misunderstood.append(Misunderstood(worker, link.pid, reason[:_REASON_CHARACTERS]))
            self.forget(link)

    def take_misunderstood(self) -> list[Misunderstood]:
        """Reports for the master about workers that were refused since the last call."""
        taken, self._misunderstood = self._misunderstood, []
        return taken

    def forget(self, link: _Link) -> None:
        """Close a connection."""
        self._all.discard(link)
        if link.worker is not None and self.greeted.get(link.worker) is link:
            del self.greeted[link.worker]
        link.close()

    def close(self) -> None:
        """Close all links; the listening socket belongs to the master and stays."""
        self._listener.close()
        for link in list(self._all):
            self.forget(link)

    def _admit(self, sock: socket.socket) -> None:
        pid, uid = peer_of(sock)
        if uid != os.geteuid():
            sock.close()
            return
        self._all.add(_Link(sock, self._reactor, pid, self))
