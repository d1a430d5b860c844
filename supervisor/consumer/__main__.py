"""`python -P -m supervisor.consumer FD`: started by the master only; FD is this end of their socketpair.

Settles in and turns the loop to its end. Whatever goes wrong before there is a loop is told to the master, which tells
who started the daemon; what was in flight is safe in ledger and slots.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import socket
from pathlib import Path

from supervisor.consumer.loop import Consumer
from supervisor.link.channel import Channel
from supervisor.link.child import live, settle_in
from supervisor.link.frames import ConsumerOrder, StartConsumer
from supervisor.logs import structured

_OBJECTS = 10_000
"""By so many objects more the cycle collector is called. With Python's 700 each refilled prefetch window is so many,
and the collector goes through it in vain: messages are in no cycles."""


def consume(start: StartConsumer, master: Channel[ConsumerOrder], descriptors: list[int]) -> int:
    """Run one consumer to its end; the exit status. `descriptors`: the listening link socket."""
    settle_in(start, f"consumer {start.pool.name}")
    report = os.open(
        Path(start.pool_dir) / "stacks" / "consumer.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640
    )
    faulthandler.register(signal.SIGQUIT, file=report, all_threads=True, chain=False)
    structured.hide_passwords((*start.broker.urls, *([start.fleet.url] if start.fleet else ())))
    gc.set_threshold(_OBJECTS)
    (listener,) = descriptors
    return Consumer(start, socket.socket(fileno=listener), master).run()


if __name__ == "__main__":
    live(StartConsumer, 1, ConsumerOrder, consume)
