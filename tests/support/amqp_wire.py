"""pika connections without a network: bytes go in as the broker would send them, what comes out is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pika
import pika.frame
import pika.spec

from supervisor.brokers.amqp import tables
from supervisor.brokers.amqp.receiving import DeliveryCallback
from supervisor.messages.message import Properties
from supervisor.system.reactor import Reactor

CHANNELS = (1, 2)
OURS, PLAIN, OTHER = "ours", "plain", "other"
"""Consumer tags on each channel: a DeliveryCallback, a consumer as pika knows them, and one that no consumer has."""


class Transport:
    """What pika writes to instead of a socket."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        """Note it."""
        self.written += data

    def abort(self) -> None:
        """Note that the connection is to end."""
        self.aborted = True


def method(channel: int, what: Any) -> bytes:
    """A method frame."""
    frame: bytes = pika.frame.Method(channel, what).marshal()
    return frame


def content(channel: int, properties: Properties, body: bytes, most: int = 131_064) -> list[bytes]:
    """A header frame, and body frames of at most `most` bytes."""
    basic = pika.spec.BasicProperties(**msgspec.structs.asdict(properties))
    pieces = [body[at : at + most] for at in range(0, len(body), most)]
    header = pika.frame.Header(channel, len(body), basic)
    return [frame.marshal() for frame in (header, *(pika.frame.Body(channel, piece) for piece in pieces))]


class Wire:
    """An open connection of `kind` with two open channels, each with a DeliveryCallback and a plain consumer."""

    def __init__(self, kind: Callable[..., Any], reactor: Reactor) -> None:
        self.taken: list[tuple[Any, ...]] = []
        self.through_pika = 0
        self.cancel_at = -1
        self.transport = Transport()
        parameters = pika.ConnectionParameters(heartbeat=600)
        self.connection = kind(parameters, custom_ioloop=reactor, internal_connection_workflow=False)
        self.connection._proto_connection_made(self.transport)
        self._greet()
        self.channels = [self._open(number) for number in CHANNELS]

    def receive(self, data: bytes) -> None:
        """What the transport does with what it has read."""
        self.connection._proto_data_received(data)

    def seen(self) -> tuple[Any, ...]:
        """Everything that we or pika can know after what was received so far."""
        connection = self.connection
        counters = (connection.bytes_received, connection.frames_received, connection.frames_sent)
        heartbeats = connection._heartbeat_checker._heartbeat_frames_received
        states = [channel.is_open for channel in self.channels]
        return self.taken, counters, heartbeats, states, self.transport.written

    def _greet(self) -> None:
        for greeting in (
            pika.spec.Connection.Start(0, 9, {"capabilities": {}}, "PLAIN", "en_US"),
            pika.spec.Connection.Tune(2047, 131_072, 600),
            pika.spec.Connection.OpenOk(),
        ):
            self.receive(method(0, greeting))
        assert self.connection.is_open

    def _open(self, number: int) -> Any:
        channel = self.connection.channel(on_open_callback=lambda opened: None)
        assert channel.channel_number == number
        self.receive(method(number, pika.spec.Channel.OpenOk()))
        for tag, consumer in ((OURS, self._receiver(channel)), (PLAIN, self._plain(number))):
            channel.basic_consume("queue", consumer, consumer_tag=tag)
            self.receive(method(number, pika.spec.Basic.ConsumeOk(tag)))
        return channel

    def _receiver(self, channel: Any) -> DeliveryCallback:
        def take(*delivery: Any) -> None:
            self.taken.append((channel.channel_number, OURS, *delivery))
            if len(self.taken) == self.cancel_at:
                channel.basic_cancel(OURS, callback=lambda ok: None)

        wire = self

        class Counted(DeliveryCallback):
            def __call__(self, *arguments: Any) -> None:
                wire.through_pika += 1
                super().__call__(*arguments)

        return Counted(take)

    def _plain(self, number: int) -> Callable[..., None]:
        def note(_channel: Any, deliver: Any, properties: Any, body: bytes) -> None:
            self.taken.append((number, PLAIN, deliver.delivery_tag, deliver.routing_key, properties.message_id, body))

        return note


@contextmanager
def wires(*kinds: Callable[..., Any]) -> Iterator[list[Wire]]:
    """One connection of each kind."""
    tables.install()
    reactor = Reactor()
    try:
        yield [Wire(kind, reactor) for kind in kinds]
    finally:
        reactor.close()
