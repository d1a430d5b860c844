"""The worker's end of the link to its consumer: connects, sends Hello, reconnects; sending never fails.

Runs in workers. Frames sent without a connection are dropped: every outcome is in the slot's ring and every unstarted
run in the next Hello. The master owns the listening socket, so a worker can connect while the consumer is being
replaced, and its Hello waits for the next one. Retries back off exponentially.
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

_CUT_OFF = "permission denied; an `init` that changes the user loses access: set `user` in [daemon] instead"


class Uplink:
    """`path`: the pool's link socket. `greet()`: the first frames of every connection, Hello first."""

    def __init__(self, path: str, greet: Callable[[], list[WorkerFrame]]) -> None:
        self._path = path
        self._greet = greet
        self._channel: Channel[ConsumerFrame] | None = None
        self._delay_s = _FIRST_DELAY_S
        self._due_s = 0.0
        self._greeted = False

    def connect_when_due(self) -> bool:
        """Connect if that is due, and send the first frames; True if they were just sent.

        Raises BootError before the first connection, for an error that waiting will not change.
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
        except OSError as error:  # the backlog is full, or the master is gone: try again later
            sock.close()
            if error.errno == EACCES and not self._greeted:  # permanent
                raise BootError(f"{self._path}: the worker cannot reach its consumer: {_CUT_OFF}") from error
            return False
        self._greeted = True
        sock = socket(fileno=posix.move_up(sock.detach()))
        self._channel = Channel(sock, ConsumerFrame)
        # fail-point: worker.connected: the consumer's socket is open, the hello is not sent
        self._channel.send(*self._greet())
        return self.flush()

    def close(self) -> None:
        """Close the connection."""
        self._lose()

    def welcomed(self, frame: ConsumerFrame) -> None:
        """Reset the back-off, when the consumer has accepted the Hello with `frame`."""
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
        """Close the connection if invalid bytes follow the frames received."""
        if self._channel is not None and self._channel.spoiled is not None:
            self._lose()

    def send(self, *frames: WorkerFrame) -> None:
        """Queue frames for the next flush; dropped while there is no connection."""
        if self._channel is not None:
            self._channel.send(*frames)

    def flush(self) -> bool:
        """Write as much as the socket accepts now; True if all is written to a live connection."""
        if self._channel is not None:
            try:
                return self._channel.flush()
            except ChannelClosed:
                self._lose()
        return False

    def flush_within(self, timeout_s: float) -> None:
        """Write queued frames, for at most `timeout_s` or until the consumer is gone."""
        until_s = monotonic_s() + timeout_s
        while not self.flush() and self._channel is not None and (left_s := until_s - monotonic_s()) > 0:
            writable = poll()
            writable.register(self._channel, POLLOUT)
            writable.poll(left_s * 1000)

    def wait(self, wake: HasFileno, timeout_s: float | None) -> None:
        """Wait for a frame, for room to write queued ones, for `wake`, at most `timeout_s` (None: no limit)."""
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
