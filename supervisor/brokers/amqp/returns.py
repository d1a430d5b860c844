"""Finds the publication that a Basic.Return belongs to. Pure.

Runs in the consumer and the command line. A Return names no tag. It repeats the publication, but with the properties
that the broker has by then: `BCC` is taken out, interceptors add headers or a timestamp
(https://www.rabbitmq.com/docs/message-interceptors). So a Return is matched by parts that a broker cannot change. The
ack that follows a Return counts as success: a Return that fits several publications must fail every one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import pika.spec

from supervisor.brokers.amqp.messages import EncodedProperties, to_properties
from supervisor.messages.message import Properties, Publication

_CHANGED = frozenset({"headers", "timestamp", "delivery_mode", "priority", "expiration"})
"""Properties that a broker on the way may set, or writes in another way."""

_TAKEN_OUT = frozenset({"BCC"})


class Sent(Protocol):
    """A publication on its way, as it was encoded."""

    @property
    def publication(self) -> Publication:
        """The publication."""

    @property
    def properties(self) -> EncodedProperties:
        """Its properties, as bytes."""


S = TypeVar("S", bound=Sent)


def returned(sent: Iterable[S], method: pika.spec.Basic.Return, properties: bytes, body: bytes) -> list[S]:
    """The publications that this Return may mean: one if it is certain, else all candidates.

    `sent`: publications without a Return, in the order of publishing, as Returns come. `properties`: as bytes.
    """
    everything = list(sent)
    there = [
        one
        for one in everything
        if (one.publication.exchange, one.publication.routing_key) == (method.exchange, method.routing_key)
    ]
    equal = [one for one in there if one.publication.body == body]
    same = next((one for one in equal if one.properties.data == properties), None)
    if same is not None:
        return [same]
    theirs = _read(properties)
    for candidates in ([one for one in equal if _may_be(one, theirs)], equal, there, everything):
        if candidates:
            return _oldest_or_all(candidates)
    return []


def _oldest_or_all(candidates: Sequence[S]) -> list[S]:
    """The oldest of equal publications, which are interchangeable."""
    kinds = {_kind(one) for one in candidates}
    return list(candidates[:1]) if len(kinds) == 1 else list(candidates)


def _kind(one: Sent) -> tuple[str, str, bytes, bytes]:
    publication = one.publication
    return publication.exchange, publication.routing_key, publication.body, one.properties.data


def _may_be(one: Sent, theirs: Properties) -> bool:
    ours = _read(one.properties.data)
    if any(getattr(ours, field) != getattr(theirs, field) for field in _FIXED):
        return False
    kept, there = ours.headers or {}, theirs.headers or {}
    return all(name in _TAKEN_OUT or (name in there and _equal(there[name], value)) for name, value in kept.items())


def _equal(one: Any, other: Any) -> bool:
    """Equal as headers: true is not 1."""
    return type(one) is type(other) and bool(one == other)


_FIXED = tuple(field for field in Properties.__struct_fields__ if field not in _CHANGED)


def _read(encoded: bytes) -> Properties:
    return to_properties(pika.spec.BasicProperties().decode(encoded))
