"""A library for programs that publish: `from supervisor.client import Client`. Not a part of the daemon.

Importing it is light: the broker's own library is loaded with the first message.
"""

from __future__ import annotations

from supervisor.client.client import Client
from supervisor.client.errors import (
    BufferFull,
    ClientClosed,
    ClientError,
    ClientFailed,
    InvalidMessage,
    LoginRefused,
    Refused,
    TimedOut,
    Unroutable,
)
from supervisor.config.schema import TlsConfig as Tls
from supervisor.messages.message import Properties

__all__ = [
    "BufferFull",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClientFailed",
    "InvalidMessage",
    "LoginRefused",
    "Properties",
    "Refused",
    "TimedOut",
    "Tls",
    "Unroutable",
]
