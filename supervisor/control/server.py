"""The master's end of the control socket. Runs in the master only, as callbacks of its reactor.

It must never block, outgrow or occupy the master: sockets are non-blocking, a connection holds at most one request
and its answer, connections are few, idle and slow ones are dropped, and a pass of the loop carries out only as many
requests as fit into a few milliseconds. Only the daemon's own user and root are admitted.

`handle(request)` carries out a request that has passed `protocol.VERBS`. It returns the result, or a Pending that is
completed later, or raises PreforkdError, whose text and exit code are sent to the client.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from supervisor.control.connection import Connection
from supervisor.control.protocol import Pending, Request, Result, error_line, read_request
from supervisor.errors import ControlError, PreforkdError, StateError
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.system.clock import monotonic_s
from supervisor.system.listening import Listener, peer_of
from supervisor.system.reactor import Reactor

Handle = Callable[[Request], Result | Pending]

MAX_CONNECTIONS = 64
IDLE_S = 30.0
"""A connection is dropped after this time without a whole request, or without reading any of its answer."""

LOOK_S = 1.0
"""The interval of checks that the socket's path exists: without it the daemon cannot be asked to restore it."""

STALLED_S = 1.0
"""At the limit of connections, one that has read none of its answer for this time is dropped for a new one."""

BUDGET_S = 0.01
"""After this time no further request is begun in a pass: the `status` of many workers takes long by itself."""

_MAX_PATH_BYTES = 107  # sun_path of unix(7) is 108 bytes with the final zero


class ControlServer:
    """Listens from the moment it is made until `close()`."""

    def __init__(self, path: Path, reactor: Reactor, handle: Handle, *, idle_s: float = IDLE_S) -> None:
        """Listen at `path`, mode 0600, in place of a stale socket.

        Raises StateError if a daemon answers there, the path belongs to another user, is no socket, is too long
        (unix(7)) or cannot be written.
        """
        self._path = path
        self._reactor = reactor
        self._handle = handle
        self._idle_s = idle_s
        self._connections: dict[int, Connection] = {}
        self._queue: deque[Connection] = deque()  # with a request, the longest waiting first
        self._missing = ""
        self._begin(_listen(path))
        self._look_again = reactor.call_later(LOOK_S, self._look)

    def close(self) -> None:
        """Drop all connections, stop listening, and remove the socket unless another has replaced it."""
        self._reactor.remove_timeout(self._look_again)
        for connection in list(self._connections.values()):
            connection.close()
        self._end()
        with suppress(OSError):
            if self._is_ours():
                self._path.unlink()

    # ---- the socket -----------------------------------------------------------------------------------------------

    def _begin(self, listening: socket.socket) -> None:
        self._socket = listening
        self._made = (0, 0)
        with suppress(OSError):  # removed already: `_look` will notice
            found = self._path.lstat()
            self._made = (found.st_dev, found.st_ino)
        self._listener = Listener(listening, f"control socket {self._path}", self._reactor, self._admit)

    def _end(self) -> None:
        self._listener.close()
        self._socket.close()

    def _is_ours(self) -> bool:
        """Whether the path is that of the listening socket. Raises OSError if it cannot be read."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return False
        return stat.S_ISSOCK(found.st_mode) and (found.st_dev, found.st_ino) == self._made

    def _look(self) -> None:
        """Make a removed socket again: without it the daemon could not be controlled."""
        self._look_again = self._reactor.call_later(LOOK_S, self._look)
        try:
            if self._is_ours():
                return
            listening = _listen(self._path)
        except (StateError, OSError) as error:
            if str(error) != self._missing:
                self._missing = str(error)
                log(Event.CONTROL_MISSING, f"the control socket was removed: {error}", level=logging.ERROR)
            return
        self._end()
        self._begin(listening)
        self._missing = ""
        log(Event.CONTROL_RESTORED, f"{self._path} was removed; it was made again", level=logging.WARNING)

    # ---- clients --------------------------------------------------------------------------------------------------

    def _admit(self, peer: socket.socket) -> None:
        refusal = _refusal(peer) or self._make_room()
        if refusal is not None:
            with suppress(OSError):
                peer.send(error_line(refusal))
            peer.close()
            return
        number = peer.fileno()
        self._connections[number] = Connection(
            peer, self._reactor, self._answer, self._take_turn, lambda: self._connections.pop(number), self._idle_s
        )

    def _take_turn(self, connection: Connection) -> None:
        if not self._queue:
            self._reactor.add_callback(self._obey_some)
        self._queue.append(connection)

    def _obey_some(self) -> None:
        """Carry out one request of each waiting client within the budget; the others follow in the next pass."""
        until_s = monotonic_s() + BUDGET_S
        for _ in range(len(self._queue)):
            self._queue[0].obey()  # it may queue up again, behind the others
            self._queue.popleft()
            if monotonic_s() >= until_s:
                break
        if self._queue:
            self._reactor.add_callback(self._obey_some)

    def _make_room(self) -> ControlError | None:
        """At the limit, drop the client that is idle longest, or reads no answer, so that an operator can connect."""
        if len(self._connections) < MAX_CONNECTIONS:
            return None
        late_s = monotonic_s() - STALLED_S
        present = self._connections.values()
        idle = [connection for connection in present if connection.idle]
        stalled = [connection for connection in present if connection.owing and connection.since_s < late_s]
        if not (idle or stalled):
            return ControlError(f"{MAX_CONNECTIONS} clients are being served already: try again in a moment")
        longest = min(idle or stalled, key=lambda connection: connection.since_s)
        longest.drop(f"there are more than {MAX_CONNECTIONS} clients, and this one was idle longest: connect again")
        return None

    def _answer(self, line: bytes) -> Result | Pending | PreforkdError:
        request: Request = {}
        try:
            request = read_request(line)
            return self._handle(request)
        except PreforkdError as error:
            return error
        except Exception as error:  # a bug in answering must not end the supervision of all workers
            logging.getLogger(__name__).exception("the control request %r failed", request.get("verb"))
            return ControlError(f"the daemon failed to answer ({error!r}); its log has more")


def _refusal(peer: socket.socket) -> ControlError | None:
    _pid, uid = peer_of(peer)
    if uid in (0, os.geteuid()):
        return None
    return ControlError(
        f"this daemon belongs to uid {os.geteuid()} and does not take orders from uid {uid}: "
        f"use that user, or root (sudo)"
    )


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise StateError(f"{path}: longer than the {_MAX_PATH_BYTES} bytes of a socket's path; shorten runtime_dir")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _remove_stale(path)
        os.fchmod(listener.fileno(), 0o600)  # bind(2) gives the path this mode, so it is never wider
        listener.bind(os.fspath(path))
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise StateError(f"{path}: cannot listen there: {error.strerror}; check runtime_dir and its owner") from error
    except StateError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StateError(f"{path}: this is not a socket; remove it, or choose another runtime_dir")
    if found.st_uid != os.geteuid():
        raise StateError(
            f"{path}: this socket belongs to uid {found.st_uid}, this daemon has uid {os.geteuid()}; "
            f"stop the daemon that made it, remove it, or choose another runtime_dir"
        )
    if _answers(path):
        raise StateError(f"{path}: a daemon is listening there already; `preforkd status` shows it")
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        try:
            client.connect(os.fspath(path))
        except BlockingIOError:  # the backlog is full: a daemon listens
            return True
        except OSError:
            return False
    return True
