"""`python -P -m supervisor.web FD`: started by the master only; FD is this end of their socketpair.

Settles in and serves until the master says otherwise or is gone. What the extra brings is imported once there is
somebody to tell that it is missing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from supervisor import logs, posix
from supervisor.errors import PreforkdError, StateError
from supervisor.link.channel import Channel, ChannelClosed, receive_with_descriptors
from supervisor.link.frames import VERSION, Refused, SidecarOrder, StartSidecar

Serve = Callable[[StartSidecar, Channel[SidecarOrder]], Coroutine[Any, Any, None]]


def main(descriptor: int) -> int:
    """Run the web child to its end; the exit status."""
    channel_socket = socket.socket(fileno=descriptor)
    try:
        start, _ = receive_with_descriptors(channel_socket, StartSidecar, 0)
    except ChannelClosed:
        return os.EX_OK  # the master died before it told us what to do
    master: Channel[SidecarOrder] = Channel(channel_socket, SidecarOrder)
    try:
        _settle_in(start)
        asyncio.run(_server()(start, master))
    except ChannelClosed:
        return os.EX_OK  # the master is gone; its PDEATHSIG is on the way
    except PreforkdError as error:
        master.send(Refused(str(error)))
        master.flush()
        return os.EX_CONFIG
    except Exception:  # a bug of ours: the daemon and its workers do not notice
        logging.getLogger(__name__).exception("the web child failed")
        return os.EX_SOFTWARE
    return os.EX_OK


def _settle_in(start: StartSidecar) -> None:
    """Raises StateError: of another version than the master, or the log file cannot be opened."""
    if not posix.die_with_parent(signal.SIGKILL, start.master_pid):
        raise ChannelClosed("the master is gone")
    if start.version != VERSION:
        raise StateError(f"the master speaks version {start.version}, this web child {VERSION}: restart preforkd")
    posix.forbid_core_and_ptrace()  # the token and the broker's password are in this process
    posix.set_title("preforkd: web")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the master says when
    logs.configure(start.log, "web")
    logs.hide_passwords(start.broker.urls)


def _server() -> Serve:
    """Raises StateError where the extra is not installed."""
    try:
        from supervisor.web.server import serve
    except ImportError as error:
        raise StateError(
            f"[web] listen needs the extra: pip install 'preforkd[web]' (there is no module {error.name})"
        ) from error
    return serve


if __name__ == "__main__":
    status = main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)  # a thread may still wait for a broker
