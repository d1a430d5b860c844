"""What the workers of a pool connect to: its link socket, and the pipe on which they say that they are ready.

Master only. Both live as long as the pool: workers and consumers come and go around them.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from supervisor.errors import StateError

_BACKLOG = 1024
_READY = struct.Struct("<II")
_READ_BYTES = 8192 * _READY.size


class Endpoints:
    """`link`: the listening link socket at `link_path`; the pipe's ends are `readiness_read` and `readiness_write`."""

    def __init__(self, link_path: Path) -> None:
        """Raises StateError when the socket or the pipe cannot be made."""
        self.link_path = link_path
        self.link = _listen(link_path)
        try:
            self.readiness_read, self.readiness_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self.link.close()
            raise StateError(f"no pipe can be made: {error.strerror}; check the limits of this user") from error

    def ready_workers(self) -> Iterator[tuple[int, int]]:
        """Slot and generation of workers that have become ready: writes of `<II`, each whole (below PIPE_BUF)."""
        with suppress(BlockingIOError):
            data = os.read(self.readiness_read, _READ_BYTES)
            yield from _READY.iter_unpack(data[: len(data) // _READY.size * _READY.size])

    def close(self) -> None:
        """Give back the descriptors and the link socket's path."""
        self.link.close()
        self.link_path.unlink(missing_ok=True)
        for descriptor in (self.readiness_read, self.readiness_write):
            os.close(descriptor)


def _listen(path: Path) -> socket.socket:
    """The pool's link socket, mode 0600. The daemon's locks are held: whatever is at `path` is stale."""
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise StateError(f"{path}: no socket can be made: {error.strerror}; check the limits of this user") from error
    try:
        path.unlink(missing_ok=True)
        os.fchmod(listener.fileno(), 0o600)  # on Linux bind(2) gives the path this mode: never wider, not even briefly
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StateError(
            f"{path}: the link socket cannot be made there: {error.strerror or error}; check runtime_dir"
        ) from error
    return listener
