"""A non-blocking, length-prefixed channel of msgpack frames over a stream socket, used between all our processes.

Wire format: u32 little-endian length, then the msgpack of one tagged frame (`frames.py`). Message headers keep their
types on the way (`field_tables.py`). Nothing is written before `flush()`, so that all frames of a loop turn leave in
one system call.
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
"""Below malloc's threshold for mapping anew: with 256 KiB a small read pays for fresh pages, three times its cost."""

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""Above any message a broker lets through; a longer length means that the stream is not ours."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Errors of msgspec for bytes that are no frame: not msgpack or of the wrong type, no UTF-8, nested too deeply."""

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
    """The other side closed the channel, died, or spoke something that is not ours."""


class NotUnderstood(ChannelClosed):
    """The other side said something that is none of the frames that it may send; the text is what."""


class OtherBuild(NotUnderstood):
    """The first frame is of another build of preforkd; the text names the VERSION of its frames."""


class Channel(Generic[F]):
    """Both directions of one stream socket. `receives` is the union of frames that may arrive.

    `most_bytes`: how long a frame may be that is received; `outgoing`: the rest of a first frame, to be sent before
    anything else.
    """

    def __init__(
        self, sock: socket.socket, receives: Any, most_bytes: int = MAX_FRAME_BYTES, outgoing: bytes = b""
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._most_bytes = most_bytes
        self.spoiled: NotUnderstood | None = None  # what followed the frames received so far
        self._decode = msgspec.msgpack.Decoder(receives, ext_hook=extension).decode
        self._incoming = bytearray()
        self._outgoing = bytearray(outgoing)
        self._poll = poll()
        self._poll.register(sock, POLLIN)

    def fileno(self) -> int:
        """The socket's descriptor, for a reactor."""
        return self.socket.fileno()

    def receive(self, at_once_bytes: int = MAX_FRAME_BYTES) -> list[F]:
        """All whole frames that have arrived, possibly none; bytes beyond the first `at_once_bytes` wait.

        Raises ChannelClosed at the end of the stream, NotUnderstood for what is no frame. Frames before that come
        first: it is raised by the next call then, or by `confirm`.
        """
        if not self._poll.poll(0):  # as mostly before each message of a worker; a read in vain costs four times as much
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
        """Raise NotUnderstood where something that is no frame has followed those that were received."""
        if self.spoiled is not None:
            raise self.spoiled

    def send(self, *frames: Frame) -> None:
        """Queue frames; they leave at the next `flush()`."""
        for frame in frames:
            data = _encode(frame)
            self._outgoing += _LENGTH.pack(len(data))
            self._outgoing += data

    def flush(self) -> bool:
        """Write what is queued as far as the socket takes it now; True when nothing is left.

        Raises ChannelClosed when the other side is gone.
        """
        if not self._outgoing:
            return True
        try:
            sent = self.socket.send(self._outgoing, socket.MSG_NOSIGNAL)  # SIGPIPE may be user code's by now
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_MEMORY:  # of this moment: nothing was sent, the other side is there
                return False
            raise ChannelClosed(str(error)) from error
        del self._outgoing[:sent]
        return not self._outgoing

    @property
    def pending_bytes(self) -> int:
        """How much waits to be written."""
        return len(self._outgoing)

    def close(self) -> None:
        """Close the socket; what was not flushed is lost."""
        with suppress(OSError):
            self.socket.close()

    def _read(self, at_once_bytes: int) -> bool:
        """Read what is there; True at the end of the stream. One that never stops writing must not keep us here."""
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
    """The type name in a frame that cannot be read, for the text about it."""
    with suppress(*_UNREADABLE):
        match msgspec.msgpack.decode(data):
            case [str(name), *_]:
                return f"a frame {name[:40]!r}"
    return "a frame"


def send_with_descriptors(sock: socket.socket, frame: Frame, descriptors: Sequence[int]) -> bytes:
    """Send a first frame together with descriptors (SCM_RIGHTS); for a child that was just started.

    Gives back what a socket that does not block has not taken, for `Channel.outgoing`. Raises OSError.
    """
    data = _encoder.encode(frame)
    payload = _LENGTH.pack(len(data)) + data
    sent = socket.send_fds(sock, [payload], list(descriptors))
    return payload[sent:]


def receive_with_descriptors(sock: socket.socket, receives: type[F], count: int) -> tuple[F, list[int]]:
    """The other end of `send_with_descriptors`, blocking; the descriptors are close-on-exec.

    Raises ChannelClosed when the sender went away first, or sent another frame or another number of descriptors;
    OtherBuild when the frame's first field is not our VERSION.
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
    """Tell a master of another build what is on disk now, and give back the status to leave with."""
    channel: Channel[Frame] = Channel(sock, Frame)
    channel.send(Build(VERSION, supervisor.__version__))
    with suppress(ChannelClosed):
        channel.flush()
    return os.EX_CONFIG


def _refuse_other_build(first: Any) -> None:
    """Look at the version before the rest is decoded: in all builds it is the first field of a frame named Start."""
    match first:
        case [str(name), version, *_] if name.startswith("Start") and version != VERSION:
            raise OtherBuild(str(version))


def _checked(length: int, most_bytes: int) -> int:
    if length > most_bytes:
        raise NotUnderstood(
            f"a frame of {length} bytes was announced, more than {most_bytes}: the other side is not preforkd"
        )
    return length
