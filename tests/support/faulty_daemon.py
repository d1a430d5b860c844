"""`python -m tests.support.faulty_daemon ORDER SECONDS --config CONFIG run`: a daemon whose master's calls fail.

Which ones, the file ORDER says (`faulty_calls.py`). Calls that wait for a disk take SECONDS longer. The children are
programs of their own and are not touched.
"""

from __future__ import annotations

import fcntl
import functools
import io
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.config.load import load
from supervisor.logs import structured
from supervisor.master.run import run_daemon
from tests.support.faulty_calls import CALLS, Order, failure

_MODULES = {"os": os, "io": io, "fcntl": fcntl, "signal": signal, "socket": socket}
_DISK = ("fsync", "fdatasync", "sync")


def _faulty(name: str, real: Callable[..., Any], order: Order) -> Callable[..., Any]:
    @functools.wraps(real)
    def call(*arguments: Any, **named: Any) -> Any:
        number = order.take(name)
        if not number:
            return real(*arguments, **named)
        if name == "os.close":
            real(*arguments)  # close(2): the descriptor is gone whatever it says
        raise failure(number)

    return call


def _break_calls(order: Order) -> None:
    for name in CALLS:
        module, _dot, function = name.partition(".")
        if name == "socket.socket":
            _break_sockets(order)
        else:
            setattr(_MODULES[module], function, _faulty(name, getattr(_MODULES[module], function), order))


def _break_sockets(order: Order) -> None:
    make = socket.socket.__init__

    def init(self: socket.socket, *arguments: Any, **named: Any) -> None:
        if (number := order.take("socket.socket")) and not named.get("fileno"):
            raise failure(number)
        make(self, *arguments, **named)

    socket.socket.__init__ = init  # type: ignore[method-assign]


def _slow(real: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        threading.Event().wait(seconds)
        return real(*arguments)

    return call


if __name__ == "__main__":
    _program, order, seconds, _config, path, _run = sys.argv
    config = load(path)
    structured.configure(config.log, "master")
    for name in _DISK:
        setattr(os, name, _slow(getattr(os, name), float(seconds)))
    _break_calls(Order(Path(order)))
    sys.exit(run_daemon(config, lambda: load(config.source), None, print))
