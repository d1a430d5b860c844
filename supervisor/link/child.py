"""How a child that serves the master begins and ends: consumer, web and hooks; the forkserver, which lets user code
in, has its own way.

It reads what it is to be from the descriptor that the master left it, settles in, runs, and tells the master why it
could not. It must leave by `os._exit`: a thread may still wait for a disk or a broker.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

from supervisor.errors import PreforkdError
from supervisor.link.channel import (
    Channel,
    ChannelClosed,
    NotUnderstood,
    OtherBuild,
    receive_with_descriptors,
    refuse_build,
)
from supervisor.link.frames import Frame, Refused, StartConsumer, StartSidecar
from supervisor.logs import structured
from supervisor.system import posix

Start = StartConsumer | StartSidecar
S = TypeVar("S", StartConsumer, StartSidecar)
Order = TypeVar("Order", bound=Frame)
Run = Callable[[S, Channel[Order], list[int]], int]
"""What a child does, from `settle_in` on: its first frame, the channel to the master, descriptors; its exit status."""

SignalHandler = signal.Handlers | Callable[[int, FrameType | None], None]


def live(first: type[S], descriptors: int, orders: Any, run: Run[S, Order]) -> NoReturn:
    """Be the child whose descriptor is the program's only argument, to its end.

    `first`: the frame that it is started with, with so many descriptors; `orders`: the union of those that follow.
    """
    status = _lived(socket.socket(fileno=int(sys.argv[1])), first, descriptors, orders, run)
    sys.stdout.flush()
    os._exit(status)


def settle_in(start: Start, title: str, when_signalled: SignalHandler = signal.SIG_IGN) -> None:
    """Become `title`, bound to the master's life, and log. Signals to the whole group are for the master: it says when.

    Raises StateError when the log file cannot be opened.
    """
    if not posix.die_with_parent(signal.SIGKILL, start.master_pid):
        raise ChannelClosed("the master is gone")
    posix.forbid_core_and_ptrace()  # each has a secret: the broker's password, a token, a webhook's URL
    posix.set_title(f"preforkd: {title}")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, when_signalled)
    structured.configure(start.log, title)


@contextmanager
def understood(order: Frame) -> Iterator[None]:
    """Raise NotUnderstood where carrying out an order fails by a bug: of ours, or of the master that gave it."""
    try:
        yield
    except (PreforkdError, ChannelClosed):
        raise
    except Exception as error:
        raise NotUnderstood(f"{type(order).__name__} cannot be handled: {error!r}") from error


def _lived(sock: socket.socket, first: type[S], descriptors: int, orders: Any, run: Run[S, Order]) -> int:
    try:
        start, received = receive_with_descriptors(sock, first, descriptors)
    except OtherBuild:
        return refuse_build(sock)
    except ChannelClosed:
        return os.EX_OK  # the master died before it told us what to do
    master: Channel[Order] = Channel(sock, orders)
    try:
        return run(start, master, received)
    except NotUnderstood as error:
        text = "what the master sent cannot be understood: %s; leaving"
        logging.getLogger(__name__).error(text, error, exc_info=error.__cause__)
        return os.EX_SOFTWARE
    except ChannelClosed:
        return os.EX_OK  # the master is gone; its PDEATHSIG is on the way
    except PreforkdError as error:
        master.send(Refused(str(error)))
        master.flush()
        return os.EX_CONFIG
    except Exception:  # a bug of ours: the log has it, the master starts another one, and nothing else depends on it
        logging.getLogger(__name__).exception("this process failed")
        return os.EX_SOFTWARE
