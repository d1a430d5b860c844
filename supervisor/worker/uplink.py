"""The worker's end of the link to its consumer: connects, greets, reconnects; sending never fails.

Runs in workers. What is sent while nobody is there is dropped on purpose: every outcome is in the slot's ring and every
unstarted run in the next Hello, so a dead consumer costs nothing. Its listening socket is the master's, so connecting
succeeds while the consumer is being replaced, and the Hello waits there for the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES
from select import POLLIN, POLLOUT, poll
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from supervisor.errors import BootError
from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import ConsumerFrame, WorkerFrame
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import HasFileno

_LONGEST_WAIT_S = 86400.0  # poll(2) counts milliseconds in 32 bits: 24 days at most
_FIRST_DELAY_S, _LAST_DELAY_S = 0.01, 1.0

_CUT_OFF = "permission denied; an `init` that changes the user cuts itself off: set `user` in [daemon] instead"


class Uplink:
    """`path`: the pool's link socket. `greet`: the frames that open every new connection, Hello first."""

    def __init__(self, path: str, greet: Callable[[], list[WorkerFrame]]) -> None:
        self._path = path
        self._greet = greet
        self._channel: Channel[ConsumerFrame] | None = None
        self._delay_s = _FIRST_DELAY_S
        self._due_s = 0.0
        self._greeted = False

    def connect_when_due(self) -> bool:
        """Connect where that is needed, and greet; True when the greeting has just been sent.

        Raises BootError where a worker that has never greeted can tell that it never will.
        """
        if self._channel is not None or monotonic_s() < self._due_s:
            return False
        self._due_s = monotonic_s() + self._delay_s
        self._delay_s = min(self._delay_s * 2, _LAST_DELAY_S)
        try:
            sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        except OSError as error:  # no descriptor is free: user code has them
            if not self._greeted:
                raise BootError(f"the worker cannot reach its consumer: {error.strerror}; raise `ulimit -n`") from error
            return False
        try:
            sock.setblocking(False)
            sock.connect(self._path)
        except OSError as error:  # no connection was accepted for long, or the master is gone: try again later
            sock.close()
            if error.errno == EACCES and not self._greeted:  # waiting does not heal that
                raise BootError(f"{self._path}: the worker cannot reach its consumer: {_CUT_OFF}") from error
            return False
        self._greeted = True
        sock = socket(fileno=posix.move_up(sock.detach()))
        self._channel = Channel(sock, ConsumerFrame)
        # fail-point: worker.connected: the consumer's socket is open, the hello is not sent
        self._channel.send(*self._greet())
        return self.flush()

    def welcomed(self, frame: ConsumerFrame) -> None:
        """The consumer took our Hello: when it is lost again, the next attempt is due soon."""
        self._delay_s = _FIRST_DELAY_S

    def receive(self) -> list[ConsumerFrame]:
        """The frames that have arrived."""
        if self._channel is not None:
            try:
                return self._channel.receive()
            except ChannelClosed:
                self._lose()
        return []

    def confirm(self) -> None:
        """Give the connection up where something that is no frame has followed those that were received."""
        if self._channel is not None and self._channel.spoiled is not None:
            self._lose()

    def send(self, *frames: WorkerFrame) -> None:
        """Queue frames for the next flush; dropped while there is no connection."""
        if self._channel is not None:
            self._channel.send(*frames)

    def flush(self) -> bool:
        """Write as much as the socket takes now; True when nothing waits on a live connection."""
        if self._channel is not None:
            try:
                return self._channel.flush()
            except ChannelClosed:
                self._lose()
        return False

    def flush_within(self, timeout_s: float) -> None:
        """Write what is queued, for at most `timeout_s`; give up when the consumer is gone."""
        until_s = monotonic_s() + timeout_s
        while not self.flush() and self._channel is not None and (left_s := until_s - monotonic_s()) > 0:
            writable = poll()
            writable.register(self._channel, POLLOUT)
            writable.poll(left_s * 1000)

    def wait(self, wake: HasFileno, timeout_s: float | None) -> None:
        """Sleep until a frame arrives, queued ones can leave, a signal came, or `timeout_s` is over (None: never)."""
        ready = poll()
        ready.register(wake, POLLIN)
        if self._channel is not None:
            ready.register(self._channel, POLLIN | (POLLOUT if self._channel.pending_bytes else 0))
        else:
            due_in_s = max(0.0, self._due_s - monotonic_s())
            timeout_s = due_in_s if timeout_s is None else min(timeout_s, due_in_s)
        ready.poll(None if timeout_s is None else min(timeout_s, _LONGEST_WAIT_S) * 1000)

    def _lose(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
