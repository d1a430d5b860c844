"""From a delivery to an arrival: which message it is, and which of its runs. Pure, but for the ids that it gives.

A message without an id gets one, so that its copies have one. It is known again by its looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import unquote, urlsplit

import msgspec

from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import EXPIRES
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.delivery_limit import count_of, limit_of, worn_from
from supervisor.consumer.settlement.messages import NONE_EARLIER, Arrival
from supervisor.ledger.base import Row
from supervisor.messages.identity import DIGEST_BYTES, content_digest, former_digests, give_id, message_key
from supervisor.messages.message import Properties, UnreadableHeaders
from supervisor.messages.transport_headers import transport

FIRST = (1, 1)


class Arrivals:
    """Identifies the deliveries of one pool."""

    def __init__(self, pool: PoolConfig, broker: BrokerConfig) -> None:
        self._queue = pool.queue
        self._id_header = pool.id_header
        self._vhost = _vhost(broker)
        self._is_transport = transport(pool.transport_headers)
        self._worn_from = worn_from(pool.queue_arguments)
        self._limit = limit_of(pool.queue_arguments)
        self._most_worn = 0

    def identify(self, delivery: Delivery) -> Arrival:
        """The arrival that this delivery is. Whatever a publisher has made of it, this raises nothing."""
        headers = delivery.properties.headers
        if isinstance(headers, UnreadableHeaders):
            return self._unreadable(delivery, headers.raw, headers.reason)
        try:
            return self._identified(delivery)
        except Exception as error:  # noqa: BLE001  (a message must not end the consumer, which all others need)
            reason = str(error) or "no reason given"
            return self._unreadable(delivery, b"", f"it cannot be identified: {type(error).__name__}: {reason}")

    def _unreadable(self, delivery: Delivery, raw_headers: bytes, reason: str) -> Arrival:
        """Told apart by body and bytes of its headers alone; to be set aside."""
        digest = blake2b(raw_headers + delivery.body, digest_size=16).digest()
        found = delivery.properties.message_id or None
        id = found or give_id()
        key = message_key(self._vhost, self._queue, id, digest)
        likeness = b"" if found else digest
        return Arrival(
            delivery, key, id, found is not None, *FIRST, stamped=False, likeness=likeness, unreadable=reason
        )

    def _identified(self, delivery: Delivery) -> Arrival:
        properties, stamp, worn, expires = delivery.properties, None, False, None
        if properties.headers:
            properties, stamp = copies.as_handled(delivery, self._queue), copies.stamp(delivery, self._queue)
            expires = properties.headers.get(EXPIRES) if properties.headers else None
            count = count_of(delivery)
            worn = count >= self._worn_from
            self._most_worn = max(self._most_worn, count if worn else 0)  # `take_worn` tells of it
        digest = content_digest(properties, delivery.body, self._is_transport)
        found = self._id_of(properties) or delivery.properties.message_id or None
        id = found or give_id()
        round_, attempt = stamp or FIRST
        return Arrival(
            delivery,
            message_key(self._vhost, self._queue, id, digest),
            id,
            found is not None,
            round_,
            attempt,
            stamp is not None,
            b"" if found else _likeness(delivery, digest),
            worn,
            found is None and copies.is_repetition(delivery),
            earlier=NONE_EARLIER if stamp is None else copies.earlier_of(delivery),
            expires=expires,
        )

    def as_known(self, arrival: Arrival, known: Sequence[Row]) -> Arrival:
        """The arrival, under the key of its row where that was made by a former rule for digests.

        `known`: the ledger's rows with the same id, at least one. Costs little unless all of them are of other content.
        """
        keys = {row.key for row in known}
        if arrival.key in keys or arrival.unreadable:
            return arrival
        properties, body = arrival.delivery.properties, arrival.delivery.body
        for digest in former_digests(properties, body, self._is_transport):
            key = message_key(self._vhost, self._queue, arrival.id, digest)
            if key in keys:
                return msgspec.structs.replace(arrival, key=key)
        return arrival

    def take_worn(self) -> tuple[int, int | None]:
        """The highest count of messages that came back too often since the last call, 0 where none did, and the limit
        beyond which the queue drops them (None: unknown)."""
        count, self._most_worn = self._most_worn, 0
        return count, self._limit

    def key_of(self, id: str) -> bytes:
        """A key with the id part that all messages with this `id` have, whatever their content."""
        return message_key(self._vhost, self._queue, id, bytes(DIGEST_BYTES))

    def _id_of(self, properties: Properties) -> str | None:
        """The id that the publisher gave. A header with nothing in it names nothing: else all such were one message."""
        named = properties.headers.get(self._id_header) if self._id_header and properties.headers else None
        if named not in (None, "", b""):
            return named.decode("utf-8", "backslashreplace") if isinstance(named, bytes) else str(named)
        return properties.message_id or None


def _likeness(delivery: Delivery, digest: bytes) -> bytes:
    properties = delivery.properties
    way = (delivery.exchange, delivery.routing_key, properties.timestamp, properties.expiration)
    seen = msgspec.msgpack.encode(way)
    return blake2b(seen + digest, digest_size=16).digest()


def _vhost(broker: BrokerConfig) -> str:
    if broker.embedded:
        return ""
    path = urlsplit(broker.urls[0]).path
    return unquote(path[1:]) if len(path) > 1 else "/"
