"""`python -m supervisor.consumer FD`: started by the master with one end of a socket pair, which brings all else."""

from __future__ import annotations

import os
import signal
import socket
import sys

from setproctitle import setproctitle

from supervisor import logs
from supervisor.consumer.loop import Consumer
from supervisor.link.channel import Channel, ChannelClosed, receive_with_descriptors
from supervisor.link.frames import VERSION, ConsumerOrder, StartConsumer
from supervisor.posix import die_with_parent, forbid_core_and_ptrace

EX_OK = 0
EX_SOFTWARE = 70


def main(descriptor: int) -> int:
    """Run one consumer to its end; the exit status."""
    channel_socket = socket.socket(fileno=descriptor)
    start, (listener,) = receive_with_descriptors(channel_socket, StartConsumer, 1)
    if start.version != VERSION or not die_with_parent(signal.SIGKILL, start.master_pid):
        return EX_SOFTWARE
    forbid_core_and_ptrace()  # the broker's password is in this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the master says when: a stop of the whole group drains first
    setproctitle(f"preforkd: consumer {start.pool.name}")
    logs.configure(start.log, f"consumer {start.pool.name}")
    logs.hide_passwords(start.broker.urls)
    master: Channel[ConsumerOrder] = Channel(channel_socket, ConsumerOrder)
    try:
        return Consumer(start, socket.socket(fileno=listener), master).run()
    except ChannelClosed:
        return EX_OK  # the master is gone; its PDEATHSIG is on the way


if __name__ == "__main__":
    status = main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)
