"""Finds the publication that made the broker close its channel or connection, or that it has returned. Pure.

Runs in the consumer and the command line. A broker answers one bad publication by closing the channel (404, 403, 406)
or, where its own code fails on it, the whole connection (541). Only the text of its answer may name the publication.
Every publication that may be the cause is a suspect and is sent again alone: one that ends its channel alone is the
cause. So it fails its own run and no other, and it is not sent for ever. A publication with a known risk is sent
alone from the start: no other publication is on its way then, and none has to be sent twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

import pika.spec

from supervisor.brokers.amqp.messages import EncodedProperties, encode, to_properties
from supervisor.messages.message import Properties, Publication

_USUAL_BODY_BYTES = 16 * 1024 * 1024
"""The smallest default of `max_message_size`, that of RabbitMQ 4."""

_DIRECT_REPLY = "amq.rabbitmq.reply-to"
"""How the pseudo-queues of RPC clients begin (https://www.rabbitmq.com/docs/direct-reply-to). Up to 4.1 a mandatory
publication to one is delivered *and* returned. So a reply is not mandatory; one to a client that has gone is lost."""

LOSSES_BEFORE_ALONE = 2
"""A connection can be lost for many reasons: only what was on its way so often in a row is sent alone the next time."""


class End(Enum):
    """How a publishing channel ended."""

    REFUSED = auto()
    """The broker closed the channel with a reason."""

    CRASHED = auto()
    """The broker closed the connection because of an error (a 5xx code)."""

    LOST = auto()
    """Anything else: the network, a stopped broker, an operator."""


class Taken:
    """Publications that the broker has accepted over the present connection."""

    def __init__(self) -> None:
        self.exchanges: set[str] = set()
        self.body_bytes = 0

    def learn(self, publication: Publication) -> None:
        """The broker was past this publication without closing the channel."""
        self.exchanges.add(publication.exchange)
        self.body_bytes = max(self.body_bytes, len(publication.body))


class Unconfirmed:
    """A publication without a confirm. `settled`: its fate was reported, only the confirm is missing.

    `losses`: the number of connections lost in a row while it was on its way. `alone`: nothing else could have been the
    cause. `sent`: how often it was sent, over any channel.
    """

    __slots__ = ("alone", "due_s", "losses", "properties", "publication", "returned", "sent", "settled", "token")

    def __init__(self, token: int, publication: Publication, due_s: float, losses: int) -> None:
        self.token = token
        self.publication = publication
        self.properties: EncodedProperties = encode(publication.properties)
        self.due_s = due_s
        self.losses = losses
        self.alone = False
        self.settled = False
        self.returned = False
        self.sent = 0

    @property
    def mandatory(self) -> bool:
        """Whether a publication that reaches no queue has failed."""
        publication = self.publication
        return bool(publication.exchange) or not publication.routing_key.startswith(_DIRECT_REPLY)


# ---- the end of a channel -------------------------------------------------------------------------------------------


class Sentence(NamedTuple):
    """The fate of publications that the broker may not have handled before the end of the channel."""

    over_limit: list[Unconfirmed]
    """It is refused."""

    alone: list[Unconfirmed]
    """To be sent again, one at a time."""

    again: list[Unconfirmed]
    """Not the cause: to be sent again with the others."""

    lost: list[Unconfirmed]
    """Their fate is unknown: the owners decide."""


def sentence(end: End, words: str, unseen: Sequence[Unconfirmed]) -> Sentence:
    """Judge the publications `unseen` by the broker's channel, in the order of publishing.

    `words`: what the broker said when it closed the channel. A publication that was sent alone is the only one here.
    """
    everything = list(unseen)
    on_trial = everything if len(everything) == 1 and everything[0].alone else []
    if end is End.LOST:
        over_limit = [one for one in on_trial if one.losses >= LOSSES_BEFORE_ALONE]
        return Sentence(over_limit, [], [], [one for one in everything if one not in over_limit])
    if end is End.CRASHED:
        return Sentence(on_trial, [] if on_trial else everything, [], [])
    suspects = [one for one in everything if _is_meant(words, one.publication)] or everything
    others = [one for one in everything if one not in suspects]
    if len(suspects) == 1:
        return Sentence(suspects, [], others, [])
    return Sentence([], suspects, others, [])


def is_a_risk(publication: Publication, user: str, taken: Taken) -> bool:
    """Whether the broker may refuse this, so that it is sent alone. `user`: the connection's."""
    return (
        (bool(publication.exchange) and publication.exchange not in taken.exchanges)
        or publication.properties.user_id not in (None, user)
        or len(publication.body) > max(taken.body_bytes, _USUAL_BODY_BYTES)
    )


def _is_meant(words: str, publication: Publication) -> bool:
    """Whether the broker's text names this publication; the first matching pattern counts."""
    for pattern, fits in _WORDS:
        if found := pattern.search(words):
            return fits(found.group(1), publication)
    return False


_WORDS: tuple[tuple[re.Pattern[str], Callable[[str, Publication], bool]], ...] = (
    (re.compile(r"topic '([^']*)' in exchange"), lambda key, publication: publication.routing_key == key),
    (re.compile(r"exchange '([^']*)'"), lambda name, publication: (publication.exchange or "amq.default") == name),
    (
        re.compile(r"user_id property set to '([^']*)'"),
        lambda user, publication: publication.properties.user_id == user,
    ),
    (re.compile(r"message size (\d+) is larger"), lambda size, publication: len(publication.body) == int(size)),
    (
        re.compile(r"invalid expiration '([^']*)'"),
        lambda text, publication: publication.properties.expiration == text,
    ),
    (
        re.compile(r"unacceptable_type_in_header,\"(\w+)\""),
        lambda name, publication: name in (publication.properties.headers or {}),
    ),
)
"""Facts in RabbitMQ's texts about the refused publication."""


# ---- a Return -------------------------------------------------------------------------------------------------------


def returned(
    sent: Sequence[Unconfirmed], method: pika.spec.Basic.Return, properties: bytes, body: bytes
) -> list[Unconfirmed]:
    """The publications that a Basic.Return may mean: one if it is certain, else all candidates.

    A Return names no tag. It repeats the publication, but with the properties that the broker has by then: `BCC` is
    taken out, interceptors add headers or a timestamp (https://www.rabbitmq.com/docs/message-interceptors). So it is
    matched by parts that a broker cannot change. The ack that follows a Return counts as success: a Return that fits
    several publications must fail every one of them.

    `sent`: publications without a Return, in the order of publishing, as Returns come. `properties`: as bytes.
    """
    there = [
        one
        for one in sent
        if (one.publication.exchange, one.publication.routing_key) == (method.exchange, method.routing_key)
    ]
    equal = [one for one in there if one.publication.body == body]
    same = next((one for one in equal if one.properties.data == properties), None)
    if same is not None:
        return [same]
    received = _read(properties)
    for candidates in ([one for one in equal if _may_be(_read(one.properties.data), received)], equal, there, sent):
        if candidates:
            return _oldest_or_all(candidates)
    return []


def _oldest_or_all(candidates: Sequence[Unconfirmed]) -> list[Unconfirmed]:
    """The oldest of equal publications, which are interchangeable."""
    kinds = {
        (one.publication.exchange, one.publication.routing_key, one.publication.body, one.properties.data)
        for one in candidates
    }
    return list(candidates[:1]) if len(kinds) == 1 else list(candidates)


def _may_be(published: Properties, received: Properties) -> bool:
    if any(getattr(published, field) != getattr(received, field) for field in _FIXED):
        return False
    kept, there = published.headers or {}, received.headers or {}
    return all(name in _TAKEN_OUT or (name in there and _equal(there[name], value)) for name, value in kept.items())


def _equal(one: Any, other: Any) -> bool:
    """Equal as headers: true is not 1."""
    return type(one) is type(other) and bool(one == other)


_TAKEN_OUT = frozenset({"BCC"})
_CHANGED = frozenset({"headers", "timestamp", "delivery_mode", "priority", "expiration"})
"""Properties that a broker on the way may set, or writes in another way."""

_FIXED = tuple(field for field in Properties.__struct_fields__ if field not in _CHANGED)


def _read(encoded: bytes) -> Properties:
    return to_properties(pika.spec.BasicProperties().decode(encoded))
