"""What is published and has no fate yet: copies of messages, and what handlers published. Owner of their tokens. Pure.

Part of the settlement, in the consumer process. A copy is published until the broker has it. A handler's publication
that the broker refuses fails its run; one that was lost with its connection is published again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from supervisor.brokers.base import Outgoing
from supervisor.consumer import copies
from supervisor.consumer.decisions import Decisions
from supervisor.consumer.entries import Entry, Phase
from supervisor.link.frames import Published
from supervisor.message import Publication


class Publications:
    """The publications of one pool; their effects go into `decisions`."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self._outgoing: dict[int, tuple[Entry, Outgoing]] = {}
        self._later: set[int] = set()  # tokens whose PublishLater is under way
        self._tokens = itertools.count(1)

    # ---- to be published ------------------------------------------------------------------------------------------

    def publish_copy(self, entry: Entry, queue: str, host: str) -> None:
        """Publish the copy that was decided upon."""
        entry.token = next(self._tokens)
        self._publish(entry, copies.copy_of(entry, queue, host, entry.token))

    def publish_for(self, entry: Entry, publications: Iterable[Publication]) -> None:
        """Publish what a handler published, once; then tell its worker as soon as the broker has it all."""
        if entry.unconfirmed is None:
            entry.phase, entry.unconfirmed = Phase.PUBLISHING, set()
            for out in publications:
                token = next(self._tokens)
                entry.unconfirmed.add(token)
                self._publish(entry, Outgoing(token, out.exchange, out.routing_key, out.properties, out.body))
        self._tell_published(entry)

    def publish_again(self, token: int) -> None:
        """The delay of a PublishLater is over; a cancelled publication stays cancelled."""
        self._later.discard(token)
        if token in self._outgoing:
            self._decisions.publish(self._outgoing[token][1])

    def publish_all_again(self) -> None:
        """Publish after a delay all that has no fate yet: its connection is gone."""
        for token in self._outgoing:
            self._publish_later(token)

    # ---- fates ----------------------------------------------------------------------------------------------------

    def confirmed(self, token: int) -> Entry | None:
        """The broker has it. Returns the message if it was the message's copy."""
        if token not in self._outgoing:
            return None
        entry, _ = self._outgoing.pop(token)
        self._decisions.count("published")
        if token == entry.token:
            return entry
        if entry.unconfirmed is not None:
            entry.unconfirmed.discard(token)
            self._tell_published(entry)
        return None

    def unpublished(self, token: int, reason: str, lost: bool) -> None:
        """The broker does not have it. `lost`: nobody knows, its connection is gone."""
        if token not in self._outgoing:
            return
        entry, _ = self._outgoing[token]
        is_copy = token == entry.token
        if is_copy or lost:
            self._publish_later(token)
        elif entry.owner is not None:
            self.cancel_handlers(entry)
            self._decisions.send(entry.owner, Published(entry.run, False, reason))
        if is_copy and not lost:
            self._decisions.say_copy_refused(entry, reason)

    # ---- cancelled ------------------------------------------------------------------------------------------------

    def cancel(self, entry: Entry) -> None:
        """The fate of all that was published for this message no longer matters."""
        self.cancel_handlers(entry)
        if entry.token is not None:
            self._outgoing.pop(entry.token, None)

    def cancel_handlers(self, entry: Entry) -> None:
        """The fate of what its handler published no longer matters."""
        for token in entry.unconfirmed or ():
            self._outgoing.pop(token, None)
        entry.unconfirmed = None

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _publish(self, entry: Entry, outgoing: Outgoing) -> None:
        self._outgoing[outgoing.token] = (entry, outgoing)
        self._decisions.publish(outgoing)

    def _publish_later(self, token: int) -> None:
        if token not in self._later:
            self._later.add(token)
            self._decisions.publish_later(token)

    def _tell_published(self, entry: Entry) -> None:
        if not entry.unconfirmed and entry.owner is not None:
            self._decisions.send(entry.owner, Published(entry.run, True, ""))
