"""RabbitMQ as a broker. The only package that imports pika."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_UNUSED = {
    "pika.adapters.asyncio_connection": "AsyncioConnection",
    "pika.adapters.blocking_connection": "BlockingConnection",
}
"""Module → what pika takes from it."""


def load_pika() -> None:
    """Import pika without two adapters that a consumer never uses, and without asyncio, which one brings: 1.7 MiB less.

    pika's package imports all its adapters. For consumers, before any other module has imported pika; where it has been
    imported already it stays as it is. Not for the command line, whose connection is one of the two.
    """
    if "pika" not in sys.modules:
        sys.modules.update({name: _empty(name, taken) for name, taken in _UNUSED.items()})
        importlib.import_module("pika")


def _empty(name: str, taken: str) -> ModuleType:
    module = ModuleType(name, "Left out by supervisor.brokers.amqp.")
    setattr(module, taken, None)
    return module
