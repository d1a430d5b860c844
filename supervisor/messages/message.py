"""The properties of an AMQP message, and a publication. Data only; used in every process.

`Properties` mirrors the basic class of AMQP 0-9-1 (section 1.8.3 of the specification's XML), field by field.
"""

from __future__ import annotations

from typing import Any

import msgspec

PROPERTIES_ROOM_BYTES = 120_000
"""Most bytes of encoded properties, headers included: they must fit into one frame (RabbitMQ's default: 128 KiB)."""


class UnreadableHeaders(dict[str, Any]):
    """Stands for received headers that cannot be decoded: an empty dict, with their `raw` bytes and the reason."""

    def __init__(self, raw: bytes, reason: str) -> None:
        super().__init__()
        self.raw = raw
        self.reason = reason


class Properties(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The basic properties of a message; None for one that the publisher did not set.

    `headers` values have the types of AMQP tables: bool, int, float, Decimal, str, bytes, datetime, list, dict, None.
    `timestamp` is in whole seconds since the epoch. `expiration` is AMQP's string of milliseconds.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


class Publication(msgspec.Struct, frozen=True, array_like=True):
    """A message to publish. `exchange` "" is the default exchange: `routing_key` is then the queue's name."""

    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
