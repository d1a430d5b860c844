"""`python -P -m supervisor.consumer FD`: started by the master only; FD is this end of their socketpair.

Settles in and turns the loop to its end. Whatever goes wrong before there is a loop is told to the master, which tells
who started the daemon.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from supervisor import logs, posix
from supervisor.consumer.loop import Consumer
from supervisor.errors import PreforkdError, StateError
from supervisor.link.channel import Channel, ChannelClosed, receive_with_descriptors
from supervisor.link.frames import VERSION, ConsumerOrder, Refused, StartConsumer

_SWITCH_S = 0.000_1
"""How long the ledger's thread waits for the interpreter once the disk is done; Python's 5 ms would delay all acks."""


def main(descriptor: int) -> int:
    """Run one consumer to its end; the exit status."""
    channel_socket = socket.socket(fileno=descriptor)
    try:
        start, (listener,) = receive_with_descriptors(channel_socket, StartConsumer, 1)
    except ChannelClosed:
        return os.EX_OK  # the master died before it told us what to do
    master: Channel[ConsumerOrder] = Channel(channel_socket, ConsumerOrder)
    try:
        _settle_in(start)
        return Consumer(start, socket.socket(fileno=listener), master).run()
    except ChannelClosed:
        return os.EX_OK  # the master is gone; its PDEATHSIG is on the way
    except PreforkdError as error:
        master.send(Refused(str(error)))
        master.flush()
        return os.EX_CONFIG
    except Exception:  # a bug of ours: what can be said is in the log, what was in flight is safe in ledger and slots
        logging.getLogger(__name__).exception("the consumer of pool %s failed", start.pool.name)
        return os.EX_SOFTWARE


def _settle_in(start: StartConsumer) -> None:
    """Raises StateError: of another version than the master, or the log file cannot be opened."""
    if not posix.die_with_parent(signal.SIGKILL, start.master_pid):
        raise ChannelClosed("the master is gone")
    if start.version != VERSION:
        raise StateError(f"the master speaks version {start.version}, this consumer {VERSION}: restart preforkd")
    posix.forbid_core_and_ptrace()  # the broker's password is in this process
    posix.set_title(f"preforkd: consumer {start.pool.name}")
    sys.setswitchinterval(_SWITCH_S)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the master says when: a stop of the whole group drains first
    report = os.open(
        Path(start.pool_dir) / "stacks" / "consumer.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640
    )
    faulthandler.register(signal.SIGQUIT, file=report, all_threads=True, chain=False)
    logs.configure(start.log, f"consumer {start.pool.name}")
    logs.hide_passwords(start.broker.urls)


if __name__ == "__main__":
    status = main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)
