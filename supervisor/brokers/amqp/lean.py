"""Loads pika without two adapters that a consumer never uses, and without asyncio, which one brings: 1.7 MiB less.

pika's package imports all its adapters. Runs in consumers, before any other module has imported pika. A consumer runs
no user code, so no code misses the adapters. Must not be used by the command line, whose connection is one of the
two.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

UNUSED = {
    "pika.adapters.asyncio_connection": "AsyncioConnection",
    "pika.adapters.blocking_connection": "BlockingConnection",
}
"""Module → what pika takes from it."""


def load_pika() -> None:
    """Import pika; where it has been imported already it stays as it is."""
    if "pika" not in sys.modules:
        sys.modules.update({name: _empty(name, taken) for name, taken in UNUSED.items()})
        importlib.import_module("pika")


def _empty(name: str, taken: str) -> ModuleType:
    module = ModuleType(name, "Left out by supervisor.brokers.amqp.lean.")
    setattr(module, taken, None)
    return module
