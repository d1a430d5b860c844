"""Publications without a fate yet: copies of messages, and handlers' publications. Owner of their tokens. Pure.

Part of the settlement, in the consumer process. A copy is published until the broker has it, ever more rarely while it
is refused (docs/decisions/0010-refused-copies.md). A handler's publication that the broker refuses fails its run; one
that was lost with its connection is published again.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.brokers.base import Outgoing
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.assignments import Assignments
from supervisor.consumer.settlement.messages import Entry, Phase
from supervisor.consumer.settlement.refused_copies import RefusedCopies, destination
from supervisor.consumer.settlement.unit_of_work import UnitOfWork
from supervisor.link.frames import Incarnation, Published, RunId
from supervisor.logs.events import Event
from supervisor.messages.message import Publication

SET_ASIDE_MOST, SET_ASIDE_BYTES = 5000, 64 * 1024 * 1024
"""How many deliveries with refused copies, and how much of their bodies, may be held beside the prefetch window."""


class Publications:
    """The publications of one pool; their effects go into `decisions`.

    `token`: of one publication. `queue`, `host`: the pool's queue and this machine's name. `timeout_s`: how long what a
    handler published may be lost again and again.
    """

    def __init__(
        self, decisions: UnitOfWork, assignments: Assignments, queue: str, host: str, timeout_s: float
    ) -> None:
        self.refused = RefusedCopies()
        self._decisions = decisions
        self._assignments = assignments
        self._queue = queue
        self._host = host
        self._timeout_s = timeout_s
        self._outgoing: dict[int, tuple[Entry, Outgoing]] = {}
        self._later: set[int] = set()  # tokens whose PublishLater is under way
        self._last_token = 0

    # ---- to be published ------------------------------------------------------------------------------------------

    def publish_copy(self, entry: Entry) -> None:
        """Publish the copy that was decided upon."""
        self.cancel(entry)
        entry.token = self._new_token()
        self._publish(entry, copies.copy_of(entry, self._queue, self._host, entry.token))

    def publish_saved(self, entry: Entry) -> None:
        """Publish the message itself once more."""
        self.cancel(entry)
        entry.token = self._new_token()
        self._publish(entry, copies.saved_copy(entry, self._queue, entry.token))

    def publish_for(self, worker: Incarnation, run: RunId, publications: Iterable[Publication]) -> None:
        """Publish what the handler of this run published, once; then tell its worker as soon as the broker has it all:
        the run is done only then. Of a run that is not this worker's: no effect.

        Its own message that it puts back into its own queue is the next round of it.
        """
        entry = self._assignments.find(worker, run)
        if entry is None:
            return
        if entry.unconfirmed is None:
            entry.phase, entry.unconfirmed, entry.published_s = Phase.PUBLISHING, set(), self._decisions.now_s
            for out in publications:
                token = self._new_token()
                entry.unconfirmed.add(token)
                again = (out.exchange, out.routing_key, out.properties.message_id) == ("", self._queue, entry.id)
                properties = copies.next_round(entry, out.properties, self._queue) if again else out.properties
                self._publish(entry, Outgoing(token, out.exchange, out.routing_key, properties, out.body))
        self._tell_published(entry)

    def publish_again(self, token: int) -> None:
        """The delay of a PublishLater is over; a cancelled publication stays cancelled."""
        if token in self._later:
            self._later.discard(token)
            self._republish(token)

    def restart_time(self) -> None:
        """No time runs for publications while there is no broker."""
        for entry, _ in self._outgoing.values():
            entry.published_s = self._decisions.now_s

    def stop_saving(self, token: int) -> Entry | None:
        """The message that this publication was to save, cancelled; None if there is none whose delivery is here."""
        entry = self._outgoing[token][0] if token in self._outgoing else None
        if entry is None or entry.phase is not Phase.SAVING or not entry.tags:
            return None
        self.cancel(entry)
        return entry

    # ---- fates ----------------------------------------------------------------------------------------------------

    def confirmed(self, token: int) -> Entry | None:
        """The broker has this publication. Returns the message if it was the message's copy."""
        if token not in self._outgoing:
            return None
        entry, outgoing = self._outgoing.pop(token)
        self._decisions.count("published")
        if token == entry.token:
            if self.refused:
                self._let_follow(outgoing)
            return entry
        if entry.unconfirmed is not None:
            entry.unconfirmed.discard(token)
            self._tell_published(entry)
        return None

    def unpublished(self, token: int, reason: str, lost: bool, for_good: bool = False) -> None:
        """The broker does not have it, or may not (`lost`: its connection is gone).

        `for_good`: the publication itself is the reason. A dead or parked copy that is refused so again and again is
        tried without the message's headers.

        What a handler published and was lost again and again for longer than the time limit fails its run, too: each
        try may be what ends the connection. A confirm that comes later has no effect.
        """
        if token not in self._outgoing:
            return
        entry, outgoing = self._outgoing[token]
        is_copy = token == entry.token
        if is_copy and not lost:
            if self.refused.add(outgoing, reason, for_good):
                self._say_refused(entry, outgoing, reason, "it is tried again")
            self._reduce_hopeless(entry, outgoing, reason)
        if is_copy or (lost and self._decisions.now_s - entry.published_s < self._timeout_s):
            self._publish_later(token)
        elif entry.owner is not None:
            self.cancel_handlers(entry)
            self._decisions.send(entry.owner, Published(entry.run, False, reason))

    def came_again(self, entry: Entry) -> None:
        """Another delivery of this message is here; it waits for its copy, too, if there is one."""
        if entry.token in self.refused:
            self.refused.changes += 1

    def set_aside(self) -> list[tuple[int, int]]:
        """The deliveries, as (epoch, tag), that wait for a refused copy and take no room from others; bounded."""
        tags: list[tuple[int, int]] = []
        size = 0
        for entry in [entry for token, (entry, _) in self._outgoing.items() if token in self.refused]:
            size += len(entry.delivery.body) if entry.delivery is not None else 0
            if len(tags) >= SET_ASIDE_MOST or size > SET_ASIDE_BYTES:
                break
            tags += entry.tags
            tags += [arrival.tag for arrival in entry.later]
        return tags

    # ---- cancelled ------------------------------------------------------------------------------------------------

    def cancel(self, entry: Entry) -> None:
        """The fate of all that was published for this message no longer matters."""
        if entry.unconfirmed is not None:
            self.cancel_handlers(entry)
        if entry.token is not None:
            self._outgoing.pop(entry.token, None)
            self.refused.drop(entry.token)
            entry.token = None

    def cancel_handlers(self, entry: Entry) -> None:
        """The fate of what its handler published no longer matters."""
        for token in entry.unconfirmed or ():
            self._outgoing.pop(token, None)
        entry.unconfirmed = None

    def _new_token(self) -> int:
        self._last_token += 1
        return self._last_token

    def _publish(self, entry: Entry, outgoing: Outgoing) -> None:
        self._outgoing[outgoing.token] = (entry, outgoing)
        self._decisions.publish(outgoing)

    def _reduce_hopeless(self, entry: Entry, outgoing: Outgoing, reason: str) -> None:
        if self.refused.is_hopeless(outgoing.token) and copies.is_reducible(outgoing):
            self._outgoing[outgoing.token] = (entry, copies.reduced(outgoing, reason))
            self.refused.begin_again(outgoing.token)
            self._say_refused(entry, outgoing, reason, "it is tried without the message's headers")

    def _say_refused(self, entry: Entry, copy: Outgoing, reason: str, then: str) -> None:
        queue = destination(copy)
        text = f"the broker did not take the copy of message {entry.id!r} for {queue!r}: {reason}; {then}"
        self._decisions.say(Event.COPY_REFUSED, text, entry, warning=True, queue=queue, reason=reason)

    def _publish_later(self, token: int) -> None:
        self._later.add(token)
        self._decisions.publish_later(token, self.refused.wait_s(token))

    def _republish(self, token: int) -> None:
        if token in self._outgoing:
            self.refused.published(token)
            self._decisions.publish(self._outgoing[token][1])

    def _let_follow(self, placed: Outgoing) -> None:
        """Its queue takes copies: publish the next that it had refused."""
        self.refused.drop(placed.token)
        for token in self.refused.next_for(destination(placed)):
            if token in self._later:
                self._later.discard(token)
                self._republish(token)

    def _tell_published(self, entry: Entry) -> None:
        if not entry.unconfirmed and entry.owner is not None:
            self._decisions.send(entry.owner, Published(entry.run, True, ""))
