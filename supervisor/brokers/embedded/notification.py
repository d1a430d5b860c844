"""Notification of another process that a queue of the embedded broker has new messages: a datagram on a Unix socket.

It only saves time: the consumer checks the file once a second anyway, so without a socket (its path may be too long)
messages wait longer, and none is lost.
"""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

_LONGEST_PATH = 107  # sun_path without its NUL, unix(7)


def queue_file(state_dir: Path, queue: str, suffix: str) -> Path:
    """The file of one queue with this `suffix`; its name is a hash (BLAKE2b), as a queue's name may have any bytes."""
    digest = hashlib.blake2b(queue.encode(), digest_size=8).hexdigest()
    return state_dir / "embedded" / f"{digest}.{suffix}"


def ring(path: Path) -> None:
    """Wake the consumer behind `path`, if there is one; never waits."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        caller.setblocking(False)
        caller.sendto(b"\0", os.fsencode(path))


def listen(path: Path) -> socket.socket | None:
    """The consumer's end; None if its path is too long or no socket can be made there.

    The caller must hold the queue's lock: a socket left by a dead consumer is removed.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        return None
    with suppress(OSError), ExitStack() as opened:
        notified = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        path.unlink(missing_ok=True)
        notified.setblocking(False)
        notified.bind(os.fsencode(path))
        opened.pop_all()
        return notified
    return None


def silence(notified: socket.socket) -> None:
    """Discard all notifications so far."""
    with suppress(BlockingIOError):
        while True:
            notified.recv(16)
