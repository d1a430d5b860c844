"""Checks, before the first connection, that the installed pika still works as this package relies on.

Runs in the consumer and in `preforkd check`, without a network: two connections, pika's own and ours, are given the
same bytes as a broker sends them. What differs would be a wrong delivery, so pika's own way is taken then; it is slower
and right. Which names of pika are relied on: docs/decisions/0008-receiving.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import pika
import pika.channel
import pika.connection
import pika.frame
import pika.spec

from supervisor.brokers.amqp import tables
from supervisor.brokers.amqp.receiving import DeliveryCallback, ReceivingConnection
from supervisor.errors import BrokerRefused
from supervisor.messages.message import Properties
from supervisor.system.reactor import Reactor

_TAG = "check"
_CHANNEL = 1
_HEADERS = {"half": 0.5, "texts": ["a", "ü"]}  # pika alone cuts the float
_BODIES = (b"", b"short", b"x" * 300)
_GREETING = (
    pika.spec.Connection.Start(0, 9, {"capabilities": {}}, "PLAIN", "en_US"),
    pika.spec.Connection.Tune(2047, 131_072, 600),
    pika.spec.Connection.OpenOk(),
)
_WAY = (
    (pika.connection.Connection, "_process_frame"),
    (pika.connection.Connection, "_deliver_frame_to_channel"),
    (pika.channel.Channel, "_handle_content_frame"),
    (pika.channel.Channel, "_on_deliver"),
)
"""pika's functions that ReceivingConnection does not call for a complete delivery."""


class Way(NamedTuple):
    """How deliveries are received: the class of the connection, and why it is not ReceivingConnection ("": it is)."""

    connection: Callable[..., Any]
    reason: str


@cache
def receiving_way() -> Way:
    """The way to receive with the installed pika. Raises BrokerRefused if pika's own way is wrong, too."""
    tables.install()
    logger = logging.getLogger("pika")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # nothing of the check is news
    reactor = Reactor()
    try:
        theirs = _tried(pika.SelectConnection, reactor)
        if theirs.deliveries != _expected():
            raise BrokerRefused(
                f"pika {pika.__version__} does not deliver messages as preforkd needs them ({theirs.trouble}); install "
                "a version in the range of preforkd's requirements"
            )
        ours = _tried(ReceivingConnection, reactor)
    finally:
        reactor.close()
        logger.setLevel(level)
    replaced = _replaced()
    if ours == theirs and not replaced:
        return Way(ReceivingConnection, "")
    reason = replaced or ours.trouble or "deliveries or counters differ from those of pika alone"
    return Way(
        pika.SelectConnection,
        f"pika {pika.__version__} is not as the faster way of receiving needs it: {reason}; messages are received at a "
        "third of the speed",
    )


def _replaced() -> str:
    """What of pika's functions on a delivery's way was replaced at run time, as an instrumentation does, or ""."""
    for owner, name in _WAY:
        function = getattr(owner, name, None)
        if type(function) is not FunctionType or not function.__module__.startswith("pika."):
            return f"{owner.__name__}.{name} was replaced at run time, and must be called for each delivery"
    return ""


class _Seen(NamedTuple):
    """Everything that a connection has shown after the same bytes."""

    deliveries: list[tuple[Any, ...]]
    counters: tuple[int, int, int]
    written: bytes
    trouble: str


class _Transport:
    """What pika writes to instead of a socket."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.written += b"aborted"


def _tried(kind: Callable[..., Any], reactor: Reactor) -> _Seen:
    deliveries: list[tuple[Any, ...]] = []
    transport = _Transport()
    try:
        counters = _receive(kind, reactor, transport, deliveries)
    except Exception as error:  # noqa: BLE001  (another pika may raise anything)
        return _Seen(deliveries, (0, 0, 0), transport.written, f"{type(error).__name__}: {error}")
    return _Seen(deliveries, counters, transport.written, "")


def _receive(
    kind: Callable[..., Any], reactor: Reactor, transport: _Transport, deliveries: list[tuple[Any, ...]]
) -> tuple[int, int, int]:
    """Open a connection of `kind`, let it receive all of `_stream`; its counters of bytes and frames."""
    parameters = pika.ConnectionParameters(heartbeat=600)
    connection = kind(parameters, custom_ioloop=reactor, internal_connection_workflow=False)
    connection._proto_connection_made(transport)
    for method in _GREETING:
        connection._proto_data_received(_method(0, method))
    channel = connection.channel(on_open_callback=lambda opened: None)
    connection._proto_data_received(_method(_CHANNEL, pika.spec.Channel.OpenOk()))
    take = DeliveryCallback(lambda *delivery: deliveries.append(delivery))
    channel.basic_consume("queue", take, consumer_tag=_TAG)
    connection._proto_data_received(_method(_CHANNEL, pika.spec.Basic.ConsumeOk(_TAG)))
    for piece in _stream():
        connection._proto_data_received(piece)
    channel.basic_cancel(_TAG, callback=lambda ok: None)
    connection._proto_data_received(_delivery(99, b"after the cancel"))  # pika rejects it
    return connection.bytes_received, connection.frames_received, connection.frames_sent


def _stream() -> list[bytes]:
    """All kinds of pieces: whole deliveries, one cut into three reads, one whose body has two frames, a heartbeat."""
    whole = b"".join(_delivery(number, body) for number, body in enumerate(_BODIES, 1))
    cut = _delivery(4, b"cut")
    long = _delivery(5, b"long body", most=5)
    heartbeat: bytes = pika.frame.Heartbeat().marshal()
    return [whole, cut[:10], cut[10:-3], cut[-3:] + long + heartbeat + whole]


def _expected() -> list[tuple[Any, ...]]:
    properties = Properties(headers=_HEADERS, delivery_mode=2, message_id="id")
    whole = [(number, "exchange", "key", True, properties, body) for number, body in enumerate(_BODIES, 1)]
    others = [(4, "exchange", "key", True, properties, b"cut"), (5, "exchange", "key", True, properties, b"long body")]
    return [*whole, *others, *whole]


def _method(channel: int, method: Any) -> bytes:
    frame: bytes = pika.frame.Method(channel, method).marshal()
    return frame


def _delivery(number: int, body: bytes, most: int = 1000) -> bytes:
    """The frames of a delivery; its body in pieces of at most `most` bytes."""
    properties = pika.spec.BasicProperties(headers=_HEADERS, delivery_mode=2, message_id="id")
    pieces = [body[at : at + most] for at in range(0, len(body), most)]
    deliver = _method(_CHANNEL, pika.spec.Basic.Deliver(_TAG, number, True, "exchange", "key"))
    header: bytes = pika.frame.Header(_CHANNEL, len(body), properties).marshal()
    return deliver + header + b"".join(pika.frame.Body(_CHANNEL, piece).marshal() for piece in pieces)
