"""A TCP proxy in front of a server that does what networks do: cut, reset, go silent without a FIN, delay, lose frames.

It runs in threads of the test process. What it swallowed is gone for good, as with a host that lost power.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_FRAME_HEAD = struct.Struct(">BHI")
_METHOD_FRAME = 1
_PROTOCOL_HEADER_BYTES = 8
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends a RST

BASIC_ACK = (60, 80)


class _Wire:
    """One client's connection, and ours to the broker for it."""

    def __init__(self, client: socket.socket, broker: socket.socket) -> None:
        self.client, self.broker = client, broker
        self.silent = self.one_way = False

    def close(self, reset: bool = False) -> None:
        """End both sides; threads that read from them wake up."""
        for sock in (self.client, self.broker):
            with suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class Proxy:
    """Listens on a port of its own. `attempts` counts the connections that clients have begun, refused ones included.

    `delay_s`: how long every piece of data waits on its way, in seconds. `amqp`: whether clients speak that; only then
    single frames can get lost. `address`: where it listens.
    """

    def __init__(self, broker_port: int, amqp: bool = True, address: str = "127.0.0.1") -> None:
        self._amqp = amqp
        self.attempts = 0
        self.delay_s = 0.0
        self._broker_port = broker_port
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._refusing = False
        self._lost: set[tuple[int, int]] = set()
        self._lost_frames = 0
        self._over = threading.Event()
        self._guard = threading.Lock()
        self._wires: list[_Wire] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    # ---- what it does to connections --------------------------------------------------------------------------------

    def silence(self) -> None:
        """The connections there are now carry nothing any more, and neither end is told. New ones work."""
        with self._guard:
            for wire in self._wires:
                wire.silent = True

    def lose_answers(self) -> None:
        """The connections there are now still carry what clients say, but not what they are answered."""
        with self._guard:
            for wire in self._wires:
                wire.one_way = True

    def reset(self) -> None:
        """Every connection ends with a RST."""
        with self._guard:
            wires, self._wires = self._wires, []
        for wire in wires:
            wire.close(reset=True)

    def refuse(self) -> None:
        """Every connection ends, and new ones are closed at once until `admit`."""
        self._refusing = True
        self.reset()

    def admit(self) -> None:
        """The end of `refuse`."""
        self._refusing = False

    def lose(self, method: tuple[int, int]) -> None:
        """From now on drop the frames of this AMQP method (class, method) on their way to the broker."""
        self._lost.add(method)

    def deliver(self) -> None:
        """The end of `lose`."""
        self._lost.clear()

    @property
    def lost_frames(self) -> int:
        """How many frames were dropped."""
        return self._lost_frames

    def close(self) -> None:
        """End everything, threads included."""
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        for thread in self._threads:
            thread.join(10)

    # ---- threads ----------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            self.attempts += 1
            if self._refusing:
                client.close()
                continue
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            wire = _Wire(client, socket.create_connection(("127.0.0.1", self._broker_port), timeout=10))
        except OSError:
            client.close()
            return
        wire.broker.settimeout(None)
        with self._guard:
            self._wires.append(wire)
        for pump in (self._to_broker, self._to_client):
            thread = threading.Thread(target=pump, args=(wire,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _to_client(self, wire: _Wire) -> None:
        for data in _pieces(wire.broker):
            if not wire.one_way:
                self._pass_on(wire, wire.client, data)
        self._ended(wire)

    def _to_broker(self, wire: _Wire) -> None:
        """Frame by frame, so that single ones can get lost."""
        held, head = b"", _PROTOCOL_HEADER_BYTES
        for data in _pieces(wire.client) if not self._amqp else ():
            self._pass_on(wire, wire.broker, data)
        for data in _pieces(wire.client):
            held += data
            passed, begin = b"", 0
            while (size := head or _frame_size(held, begin)) and len(held) - begin >= size:
                frame, begin, head = held[begin : begin + size], begin + size, 0
                if self._is_lost(frame):
                    self._lost_frames += 1
                else:
                    passed += frame
            held = held[begin:]
            self._pass_on(wire, wire.broker, passed)
        self._ended(wire)

    def _is_lost(self, frame: bytes) -> bool:
        return bool(self._lost) and frame[0] == _METHOD_FRAME and struct.unpack_from(">HH", frame, 7) in self._lost

    def _pass_on(self, wire: _Wire, receiver: socket.socket, data: bytes) -> None:
        if self.delay_s:
            self._over.wait(self.delay_s)
        if not wire.silent:
            with suppress(OSError):
                receiver.sendall(data)

    def _ended(self, wire: _Wire) -> None:
        """One side has closed: the other one learns it, unless the wire is silent."""
        if not wire.silent:
            wire.close()


def _pieces(sock: socket.socket) -> Iterator[bytes]:
    with suppress(OSError):
        while data := sock.recv(1 << 16):
            yield data


def _frame_size(held: bytes, begin: int) -> int:
    """Bytes of the frame at `begin`, 0 while its head is not complete."""
    if len(held) - begin < _FRAME_HEAD.size:
        return 0
    _kind, _channel, payload = _FRAME_HEAD.unpack_from(held, begin)
    return _FRAME_HEAD.size + int(payload) + 1


@contextmanager
def running_proxy(broker_port: int, amqp: bool = True, address: str = "127.0.0.1") -> Iterator[Proxy]:
    """A proxy that is gone at the end, whatever happens in between."""
    proxy = Proxy(broker_port, amqp, address)
    try:
        yield proxy
    finally:
        proxy.close()
