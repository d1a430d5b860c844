"""A listening socket in a reactor: accepts connections, and pauses while no descriptor is free.

Used by the master's control socket and the consumers' link sockets. It must never spin: a connection that cannot be
accepted stays in the backlog, and epoll would report it again at once.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable

from supervisor.system.reactor import Reactor, Timer, Watch

PAUSE_S = 1.0
_ACCEPTED_AT_ONCE = 16
_PEER = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


class Listener:
    """Accepts from `sock`, which the caller owns, until `close()`. `what`: its name in the log.

    `admit(peer)` is called with each new connection, non-blocking and close-on-exec.
    """

    def __init__(
        self, sock: socket.socket, what: str, reactor: Reactor, admit: Callable[[socket.socket], None]
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._what = what
        self._reactor = reactor
        self._admit = admit
        self._again: Timer | None = None
        self._short = False
        self._watch = Watch(reactor, sock.fileno(), self._accept, reactor.READ)

    def close(self) -> None:
        """Accept no more; the socket stays open."""
        if self._again is not None:
            self._reactor.remove_timeout(self._again)
            self._again = None
        self._watch.want(0)

    def _accept(self, fd: int, events: int) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                peer = self._socket.accept()[0]
            except (BlockingIOError, ConnectionError):  # no more, or the client is gone
                return
            except OSError as error:  # no descriptor or memory left (accept(2): EMFILE, ENFILE, ENOBUFS, ENOMEM)
                self._pause(error)
                return
            self._short = False
            peer.setblocking(False)
            self._admit(peer)

    def _pause(self, error: OSError) -> None:
        if not self._short:
            text = (
                "%s: a connection waits, because none can be accepted: %s; raise `ulimit -n` (LimitNOFILE of systemd)"
            )
            logging.getLogger(__name__).warning(text, self._what, error.strerror)
        self._short = True
        self._watch.want(0)
        self._again = self._reactor.call_later(PAUSE_S, self._listen_again)

    def _listen_again(self) -> None:
        self._again = None
        self._watch.want(self._reactor.READ)


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Pid and uid of the process that connected a Unix socket, from the kernel (SO_PEERCRED of unix(7))."""
    pid, uid, _gid = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, uid
