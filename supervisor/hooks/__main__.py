"""`python -P -m supervisor.hooks FD`: started by the master only; FD is this end of their socketpair."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys

from supervisor import logs, posix
from supervisor.errors import PreforkdError, StateError
from supervisor.hooks.loop import Hooks
from supervisor.link.channel import Channel, ChannelClosed, receive_with_descriptors
from supervisor.link.frames import VERSION, Refused, SidecarOrder, StartSidecar
from supervisor.redaction import secrets_of


def main(descriptor: int) -> int:
    """Tell until the master says Quit; the exit status."""
    channel_socket = socket.socket(fileno=descriptor)
    try:
        start, _none = receive_with_descriptors(channel_socket, StartSidecar, 0)
    except ChannelClosed:
        return os.EX_OK  # the master died before it told us what to do
    master: Channel[SidecarOrder] = Channel(channel_socket, SidecarOrder)
    try:
        _settle_in(start)
        Hooks(start, master).run()
        return os.EX_OK
    except ChannelClosed:
        return os.EX_OK  # the master is gone; its PDEATHSIG is on the way
    except PreforkdError as error:
        master.send(Refused(str(error)))
        master.flush()
        return os.EX_CONFIG
    except Exception:  # a bug of ours: the log has it, the master starts another one
        logging.getLogger(__name__).exception("the hooks process failed")
        return os.EX_SOFTWARE


def _settle_in(start: StartSidecar) -> None:
    """Raises StateError: of another version than the master, or the log file cannot be opened."""
    if not posix.die_with_parent(signal.SIGKILL, start.master_pid):
        raise ChannelClosed("the master is gone")
    if start.version != VERSION:
        raise StateError(f"the master speaks version {start.version}, the hooks {VERSION}: restart preforkd")
    posix.forbid_core_and_ptrace()  # the webhook's URL is in this process
    posix.set_title("preforkd: hooks")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _the_master_decides)
    logs.configure(start.log, "hooks")
    for secret in secrets_of(start.hooks.webhook):
        logs.add_secret(secret)


def _the_master_decides(number: int, frame: object) -> None:
    """A stop of the whole group tells what is left first. Not SIG_IGN: that is inherited by the commands."""


if __name__ == "__main__":
    status = main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)
