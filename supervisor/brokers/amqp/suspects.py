"""Finds the publication that made the broker close the publishing channel or connection. Pure: a table of ends.

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
from typing import Generic, NamedTuple, Protocol, TypeVar

from supervisor.messages.message import Publication

_USUAL_BODY_BYTES = 16 * 1024 * 1024
"""The smallest default of `max_message_size`, that of RabbitMQ 4."""

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


class Suspect(Protocol):
    """A publication that the broker may have handled when the channel ended."""

    alone: bool
    """Whether nothing else could have been the cause."""

    losses: int
    """The number of connections lost in a row while it was on its way."""

    @property
    def publication(self) -> Publication:
        """The publication."""


S = TypeVar("S", bound=Suspect)


class Sentence(NamedTuple, Generic[S]):
    """The fate of publications that the broker may not have handled before the end of the channel."""

    over_limit: list[S]
    """It is refused."""

    alone: list[S]
    """To be sent again, one at a time."""

    again: list[S]
    """Not the cause: to be sent again with the others."""

    lost: list[S]
    """Their fate is unknown: the owners decide."""


def sentence(end: End, words: str, unseen: Sequence[S]) -> Sentence[S]:
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
