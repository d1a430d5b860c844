"""A non-blocking, length-prefixed channel of msgpack frames over a stream socket, used between all processes.

Wire format: u32 little-endian length, then the msgpack of one tagged frame (`frames.py`). Message headers keep their
types (`field_tables.py`). Nothing is written before `flush()`, so that all frames of a pass need one system call.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from select import POLLIN, poll  # bound before user code can replace it
from typing import Any, Generic, TypeVar

import msgspec

import supervisor
from supervisor.link.frames import VERSION, Build, Frame, Publish, Run
from supervisor.messages.field_tables import extension, packable_properties

F = TypeVar("F")

_LENGTH = struct.Struct("<I")
_READ_BYTES = 64 * 1024
"""Below malloc's mmap threshold (mallopt(3)): with 256 KiB a small read pays for fresh pages, three times its cost."""

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""Above any message that a broker accepts; a longer length means that the peer is not preforkd."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Errors of msgspec for an invalid frame: not msgpack, a wrong type, no UTF-8, nested too deeply."""

_encoder = msgspec.msgpack.Encoder()


def _packable_run(frame: Run) -> Run:
    properties = packable_properties(frame.properties)
    return frame if properties is frame.properties else msgspec.structs.replace(frame, properties=properties)


def _packable_publish(frame: Publish) -> Publish:
    publications = [
        msgspec.structs.replace(publication, properties=packable_properties(publication.properties))
        for publication in frame.publications
    ]
    return msgspec.structs.replace(frame, publications=publications)


_CARRYING_HEADERS: dict[type[Frame], Callable[[Any], Frame]] = {Run: _packable_run, Publish: _packable_publish}


def _encode(frame: Frame) -> bytes:
    packable = _CARRYING_HEADERS.get(type(frame))
    return _encoder.encode(frame if packable is None else packable(frame))


_NO_MEMORY = (errno.ENOBUFS, errno.ENOMEM)


class ChannelClosed(Exception):
    """The peer closed the channel, died, or sent an invalid frame."""


class NotUnderstood(ChannelClosed):
    """The peer sent bytes that are none of the expected frames; the text says which."""


class OtherBuild(NotUnderstood):
    """The first frame is of another build of preforkd; the text names the VERSION of its frames."""


class Channel(Generic[F]):
    """Both directions of one stream socket. `receives`: the union of the expected frames.

    `most_bytes`: the longest accepted frame; `outgoing`: the rest of a first frame, which is sent first.
    """

    def __init__(
        self, sock: socket.socket, receives: Any, most_bytes: int = MAX_FRAME_BYTES, outgoing: bytes = b""
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._most_bytes = most_bytes
        self.spoiled: NotUnderstood | None = None  # an invalid frame behind those received so far
        self._decode = msgspec.msgpack.Decoder(receives, ext_hook=extension).decode
        self._incoming = bytearray()
        self._outgoing = bytearray(outgoing)
        self._poll = poll()
        self._poll.register(sock, POLLIN)

    def fileno(self) -> int:
        """The socket's descriptor, for a reactor."""
        return self.socket.fileno()

    def receive(self, at_once_bytes: int = MAX_FRAME_BYTES) -> list[F]:
        """All complete frames that have arrived, possibly none; bytes beyond the first `at_once_bytes` wait.

        Raises ChannelClosed at the end of the stream, NotUnderstood for an invalid frame. Frames before it are returned
        first: the error is then raised by the next call, or by `confirm`.
        """
        if not self._poll.poll(0):  # the usual case before each message of a worker; a read costs four times as much
            self.confirm()
            return []
        frames: list[F] = []
        closed = self._read(at_once_bytes)
        buffer, start = self._incoming, 0
        view, size = memoryview(buffer), len(buffer)
        try:
            while size - start >= _LENGTH.size:
                body = start + _LENGTH.size
                end = body + _checked(_LENGTH.unpack_from(buffer, start)[0], self._most_bytes)
                if end > size:
                    break
                frames.append(self._one(view[body:end]))
                start = end
        except NotUnderstood as error:
            self.spoiled = error
        if start:
            self._incoming = buffer[start:]
        if not frames:
            self.confirm()
            if closed:
                raise ChannelClosed("end of stream")
        return frames

    def confirm(self) -> None:
        """Raise NotUnderstood if an invalid frame follows those received."""
        if self.spoiled is not None:
            raise self.spoiled

    def send(self, *frames: Frame) -> None:
        """Queue frames for the next `flush()`."""
        for frame in frames:
            data = _encode(frame)
            self._outgoing += _LENGTH.pack(len(data))
            self._outgoing += data

    def flush(self) -> bool:
        """Write as much of the queue as the socket accepts now; True if nothing is left.

        Raises ChannelClosed if the peer is gone.
        """
        if not self._outgoing:
            return True
        try:
            sent = self.socket.send(self._outgoing, socket.MSG_NOSIGNAL)  # user code may have changed SIGPIPE
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_MEMORY:  # temporary: nothing was sent
                return False
            raise ChannelClosed(str(error)) from error
        del self._outgoing[:sent]
        return not self._outgoing

    @property
    def pending_bytes(self) -> int:
        """The number of queued bytes."""
        return len(self._outgoing)

    def close(self) -> None:
        """Close the socket; queued frames are lost."""
        with suppress(OSError):
            self.socket.close()

    def _read(self, at_once_bytes: int) -> bool:
        """Read up to `at_once_bytes`, in case the peer never stops writing; True at the end of the stream."""
        until = len(self._incoming) + at_once_bytes
        while len(self._incoming) < until:
            try:
                data = self.socket.recv(_READ_BYTES)
            except BlockingIOError:
                return False
            except OSError:
                return True
            if not data:
                return True
            self._incoming += data
            if len(data) < _READ_BYTES:
                return False
        return False

    def _one(self, data: memoryview) -> F:
        try:
            frame: F = self._decode(data)
        except _UNREADABLE as error:
            raise NotUnderstood(f"{_name_of(data)} cannot be read: {error}") from error
        return frame


def _name_of(data: memoryview) -> str:
    """The type name of an invalid frame, for error texts."""
    with suppress(*_UNREADABLE):
        match msgspec.msgpack.decode(data):
            case [str(name), *_]:
                return f"a frame {name[:40]!r}"
    return "a frame"


def send_with_descriptors(sock: socket.socket, frame: Frame, descriptors: Sequence[int]) -> bytes:
    """Send a first frame together with `descriptors` (SCM_RIGHTS of unix(7)) to a child that was just started.

    Returns the bytes that a non-blocking socket did not accept, for `Channel.outgoing`. Raises OSError.
    """
    data = _encoder.encode(frame)
    payload = _LENGTH.pack(len(data)) + data
    sent = socket.send_fds(sock, [payload], list(descriptors))
    return payload[sent:]


def receive_with_descriptors(sock: socket.socket, receives: type[F], count: int) -> tuple[F, list[int]]:
    """Receive a first frame with `count` descriptors, which become close-on-exec; blocks.

    Raises ChannelClosed if the sender is gone, or sent another number of descriptors; NotUnderstood for another frame;
    OtherBuild if the frame's first field is not VERSION.
    """
    head, descriptors, _flags, _address = socket.recv_fds(sock, _LENGTH.size, count)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # not MSG_CMSG_CLOEXEC: Python 3.11's recv_fds ignores its flags
    if len(head) < _LENGTH.size:
        raise ChannelClosed("end of stream before the first frame")
    if len(descriptors) != count:
        raise ChannelClosed(f"the first frame came with {len(descriptors)} descriptors instead of {count}")
    data = bytearray()
    length = _checked(_LENGTH.unpack(head)[0], MAX_FRAME_BYTES)
    while len(data) < length:
        more = sock.recv(min(length - len(data), _READ_BYTES))
        if not more:
            raise ChannelClosed("end of stream within the first frame")
        data += more
    try:
        _refuse_other_build(msgspec.msgpack.decode(data))
        return msgspec.msgpack.decode(data, type=receives), descriptors
    except _UNREADABLE as error:
        raise NotUnderstood(f"the first frame cannot be read: {error}") from error


def refuse_build(sock: socket.socket) -> int:
    """Send this build's version to a master of another build; returns the exit status."""
    channel: Channel[Frame] = Channel(sock, Frame)
    channel.send(Build(VERSION, supervisor.__version__))
    with suppress(ChannelClosed):
        channel.flush()
    return os.EX_CONFIG


def _refuse_other_build(first: Any) -> None:
    """Check the version before the rest is decoded: in all builds it is the first field of each Start frame."""
    match first:
        case [str(name), version, *_] if name.startswith("Start") and version != VERSION:
            raise OtherBuild(str(version))


def _checked(length: int, most_bytes: int) -> int:
    if length > most_bytes:
        raise NotUnderstood(
            f"a frame of {length} bytes was announced, more than {most_bytes}: the other side is not preforkd"
        )
    return length
