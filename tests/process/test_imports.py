"""What is in memory as soon as a program of ours has begun: its share of every host it runs on, for as long as it runs.

Asked of the interpreter, not of the sources: libraries bring libraries.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"pika", "sqlite3", "rich", "asyncio", "email", "importlib.metadata", "zipfile", "tempfile"}

NOT_FOR: dict[str, set[str]] = {
    "supervisor.api": HEAVY | {"click", "psutil", "setproctitle", "pythonjsonlogger"},  # users' own tests import it
    "supervisor.cli.start": HEAVY | {"_hashlib"},  # the master, to be; _hashlib: OpenSSL
    "supervisor.client": HEAVY | {"click", "psutil", "setproctitle", "pythonjsonlogger"},  # web applications import it
    "supervisor.forkserver.__main__": HEAVY | {"click", "psutil"},  # and with it every worker
    "supervisor.consumer.__main__": HEAVY - {"sqlite3"} | {"click", "psutil"},  # where the broker is the embedded queue
}
"""Module → what importing it must not bring."""


@pytest.mark.parametrize("module", NOT_FOR)
def test_nothing_heavy_is_imported_that_is_not_used(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({NOT_FOR[module]!r} & set(sys.modules)))"
    assert _told(code).split() == []


CLIENT = """
import logging, signal, sys
before = (logging.root.handlers, logging.root.level, [signal.getsignal(n) for n in signal.valid_signals()])
from supervisor.client import Client, ClientError
client = Client("amqp://127.0.0.1:1/")
try:
    client.publish("q", b"", timeout_s=0.1)
except ClientError as error:
    print(type(error).__name__)
loggers = {name for name, one in logging.root.manager.loggerDict.items() if getattr(one, "level", 0)}
print(before == (logging.root.handlers, logging.root.level, [signal.getsignal(n) for n in signal.valid_signals()]))
print("pika" in sys.modules, *loggers)
"""


def test_a_client_leaves_logging_and_signals_of_the_application_alone() -> None:
    assert _told(CLIENT).split() == ["TimedOut", "True", "True"]


OPENED = """
import sys
from supervisor.brokers import open_broker
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.system.reactor import Reactor
open_broker(PoolConfig("email", "email", "m:f"), BrokerConfig(urls=("amqp://localhost",)), "", Reactor())
"""
"""What a consumer of RabbitMQ does first."""


def test_a_consumer_of_rabbitmq_carries_neither_asyncio_nor_what_pika_has_for_others() -> None:
    absent = HEAVY - {"pika", "sqlite3"} | {"concurrent.futures", "subprocess", "click", "psutil"}
    told = _told(f"{OPENED}\nprint('pika.adapters.select_connection' in sys.modules, *{absent!r} & set(sys.modules))")
    assert told.split() == ["True"]


NAMES = """
from pika import BlockingConnection
from pika.adapters import AsyncioConnection
from pika.adapters.blocking_connection import BlockingChannel
print(BlockingConnection.__name__, AsyncioConnection.__name__, BlockingChannel.__name__)
"""


def test_who_has_imported_pika_before_keeps_all_of_it() -> None:
    told = _told(f"import pika\n{OPENED}\n{NAMES}")
    assert told.split() == ["BlockingConnection", "AsyncioConnection", "BlockingChannel"]


def test_the_entry_point_imports_nothing_of_ours_before_sigint_has_its_default_action() -> None:
    """A Ctrl-C during imports would show a traceback, see test_interruptions.py."""
    told = _told("import sys, supervisor.cli; print(*sorted(m for m in sys.modules if m.startswith('supervisor')))")
    assert told.split() == ["supervisor", "supervisor.cli"]


def test_what_handlers_use_is_loaded_when_it_is_asked_for() -> None:
    told = _told("from supervisor import *; import supervisor; print(Retry is supervisor.Retry, Message.__module__)")
    assert told.split() == ["True", "supervisor.api"]


def _told(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
