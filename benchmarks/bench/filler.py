"""Fills a queue with copies of one message, each with an id of its own, as fast as the broker takes them, confirmed.

The copies are made from the bytes of the message's frames, so that filling costs a tenth of what a client library would
need for it, and so that a peer finds exactly what its own publisher would have sent.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import pika
from pika import frame, spec

T = TypeVar("T")

_CHUNK = 500
_UNCONFIRMED = 4000
"""Few enough for all their confirms to fit into socket buffers while we are writing."""
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Template:
    """A message; wherever the text `unique` stands in it, each copy has an id of its own, as long as that."""

    properties: pika.BasicProperties
    body: bytes
    unique: str

    def frames(self, queue: str) -> bytes:
        """What a client writes to publish it to a queue."""
        parts = (
            frame.Method(1, spec.Basic.Publish(exchange="", routing_key=queue)),
            frame.Header(1, len(self.body), self.properties),
            frame.Body(1, self.body),
        )
        return b"".join(part.marshal() for part in parts)


def plain(size: int) -> Template:
    """A persistent message with an id and a body of so many bytes, which holds the id, too: no two are equal."""
    unique = "1d1d1d1d-0000-4000-8000-000000000000"
    properties = pika.BasicProperties(message_id=unique, delivery_mode=2)
    return Template(properties, unique.encode() + b"." * (size - len(unique)), unique)


def copies(template: Template, queue: str, count: int, dice: random.Random) -> Iterator[bytes]:
    """The bytes of so many copies, in chunks. Pure."""
    frames, unique = template.frames(queue), template.unique.encode()
    for done in range(0, count, _CHUNK):
        some = range(min(_CHUNK, count - done))
        yield b"".join(frames.replace(unique, _uuid(dice)) for _ in some)


def _uuid(dice: random.Random) -> bytes:
    return str(UUID(int=dice.getrandbits(128), version=4)).encode()


class Filler:
    """A bare AMQP connection that only publishes."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = bytearray()
        self._published = self._confirmed = 0
        sock.sendall(frame.ProtocolHeader().marshal())
        self._expect(spec.Connection.Start)
        self._say(0, spec.Connection.StartOk(client_properties={}, response=b"\0guest\0guest"))
        tune = self._expect(spec.Connection.Tune)
        self._say(0, spec.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        self._say(0, spec.Connection.Open("/"))
        self._expect(spec.Connection.OpenOk)
        self._say(1, spec.Channel.Open())
        self._expect(spec.Channel.OpenOk)
        self._say(1, spec.Confirm.Select())
        self._expect(spec.Confirm.SelectOk)

    def fill(self, queue: str, template: Template, count: int, dice: random.Random) -> None:
        """Publish so many copies; all of them are in the queue when this returns."""
        for chunk in copies(template, queue, count, dice):
            self._socket.sendall(chunk)
            self._published += min(_CHUNK, count)
            count -= _CHUNK
            self._wait_confirmed(self._published - _UNCONFIRMED)
        self._wait_confirmed(self._published)

    def _wait_confirmed(self, tag: int) -> None:
        while self._confirmed < tag:
            ack = self._expect(spec.Basic.Ack)
            # Acks may come out of order; a queue confirms in order, so that the highest tag stands for all below.
            self._confirmed = max(self._confirmed, ack.delivery_tag)

    def _say(self, channel: int, method: spec.amqp_object.Method) -> None:
        self._socket.sendall(frame.Method(channel, method).marshal())

    def _expect(self, kind: type[T]) -> T:
        while True:
            length, found = frame.decode_frame(bytes(self._received[:4096]))
            if found is None:
                self._received += self._more()
                continue
            del self._received[:length]
            if isinstance(found, frame.Method) and isinstance(found.method, kind):
                return found.method
            if not isinstance(found, frame.Heartbeat):
                raise AssertionError(f"instead of {kind.__name__} the broker said {found}")

    def _more(self) -> bytes:
        some = self._socket.recv(65536)
        if not some:
            raise AssertionError("the broker has closed the connection that fills queues")
        return some


@contextmanager
def filler(port: int) -> Iterator[Filler]:
    """A connection to the broker at this port of our own machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as sock:
        yield Filler(sock)
