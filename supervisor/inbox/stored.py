"""Publications as the bytes that stand in a row of the inbox or outbox, and back, without loss. Pure.

Another version of preforkd may read them after an upgrade or on another host, so the first byte names the format.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supervisor.messages.field_tables import extension, packable_properties
from supervisor.messages.inbox_run import InboxError
from supervisor.messages.message import Publication

OPEN = b""
"""Stands in a row whose block has not been left; a commit makes it visible only in the middle of a block."""

_FORMAT = b"\x01"  # msgpack of a list of publications, as `field_tables` writes headers

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Publication], ext_hook=extension).decode


def packed(publications: Sequence[Publication]) -> bytes | None:
    """The bytes for the row; None for no publications. They are of the kind that `sendable` gives."""
    if not publications:
        return None
    lossless = [msgspec.structs.replace(one, properties=packable_properties(one.properties)) for one in publications]
    return _FORMAT + _encode(lossless)


def unpacked(data: bytes | None) -> list[Publication]:
    """The publications in `data`, which `packed` has made. Raises InboxError for other bytes."""
    if data is None:
        return []
    if data[:1] != _FORMAT:
        raise InboxError(
            f"what is stored to be published has the format {data[:1].hex()}, which this version of preforkd does not "
            "know: use the version that wrote it, or a later one"
        )
    try:
        return _decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        raise InboxError(f"what is stored to be published is damaged: {error}") from error
