"""Begin and end of a child of the master: consumer, web and hooks. (The forkserver runs user code, and has its own.)

The child receives its first frame from the descriptor given by the master, sets itself up, runs, and reports why it
could not. It must exit by `os._exit`: a thread may still wait for a disk or a broker.
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
"""(First frame, channel to the master, descriptors) to exit status: the work of a child, from `settle_in` on."""

SignalHandler = signal.Handlers | Callable[[int, FrameType | None], None]


def live(first: type[S], descriptors: int, orders: Any, run: Run[S, Order]) -> NoReturn:
    """Run the child whose descriptor is the program's only argument, and exit.

    `first`: its first frame, which comes with so many `descriptors`; `orders`: the union of later frames; `run`: its
    work.
    """
    status = _lived(socket.socket(fileno=int(sys.argv[1])), first, descriptors, orders, run)
    sys.stdout.flush()
    os._exit(status)


def settle_in(start: Start, title: str, when_signalled: SignalHandler = signal.SIG_IGN) -> None:
    """Set up this process: `title`, logging, end with the master. `when_signalled` handles signals to the whole group.

    Raises ChannelClosed if the master is gone, StateError if the log file cannot be opened.
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
    """Turn an exception caused by a bug while an order is carried out into NotUnderstood, and raise it."""
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
        return os.EX_OK  # the master died before it sent the first frame
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
    except Exception:  # a bug: it is logged, and the master starts another child
        logging.getLogger(__name__).exception("this process failed")
        return os.EX_SOFTWARE
