"""The drill's handler: records its effect durably, and commits the fault that its message orders. Runs in workers.

A fault is announced in a file before it happens, so that the audit knows which faults began.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from supervisor.api import Message
from supervisor.drill.plan import DrillMessage, InnerFault

FOLDER = "PREFORKD_DRILL"
EFFECTS = "effects.jsonl"
ANNOUNCED = "faults.jsonl"

GROWING_S = 50.0
"""The time for a worker to grow past `kill_memory`; with the pool's timeout it is below `max_timeout`."""

_PAGE = 16 * 1024**2


def run(message: Message) -> None:
    """Handle one message of a drill."""
    order = msgspec.json.decode(message.body, type=DrillMessage)
    fault = order.fault if (message.round, message.attempt) == (1, 1) else None
    if fault is None or order.after_effect:
        _append(EFFECTS, {"id": message.id, "round": message.round, "attempt": message.attempt, "pid": os.getpid()})
    if fault is not None:
        if fault is InnerFault.MEMORY:
            message.extend(GROWING_S)  # the memory limit must end it, however slowly it grows
        _append(ANNOUNCED, {"id": message.id, "fault": fault, "pid": os.getpid()})
        _COMMIT[fault]()


def _append(name: str, record: dict[str, Any]) -> None:
    """Write one line durably. O_APPEND and a single write(2) keep the lines of several workers apart."""
    file = os.open(Path(os.environ[FOLDER]) / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, msgspec.json.encode(record) + b"\n")
        os.fdatasync(file)
    finally:
        os.close(file)


def _segfault() -> None:
    ctypes.string_at(0)


def _exception() -> None:
    raise RuntimeError("ordered by the drill")


def _hang() -> None:
    while True:
        signal.pause()


def _grow() -> None:
    pages = []
    while True:
        pages.append(b"\1" * _PAGE)
        signal.sigtimedwait([], 0.02)


_COMMIT = {
    InnerFault.SEGFAULT: _segfault,
    InnerFault.ABORT: os.abort,
    InnerFault.EXIT_ZERO: lambda: os._exit(0),
    InnerFault.EXIT_THREE: lambda: sys.exit(3),
    InnerFault.HANG: _hang,
    InnerFault.EXCEPTION: _exception,
    InnerFault.MEMORY: _grow,
}
