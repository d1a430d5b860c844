"""Collects what a turn decided: log events, rows and counters for one commit, effects in order. Pure.

Part of the settlement, in the consumer process. `turn/commit_pipeline.py` commits and carries out. The effects stay
here until that commit is durable: what is heard meanwhile may withdraw some of them, just as it may those of the turn
that is still being decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from supervisor.brokers.base import Outgoing
from supervisor.consumer.settlement.copies import CONFIRMED
from supervisor.consumer.settlement.failure_policy import asking
from supervisor.consumer.settlement.messages import Arrival, Entry, Failure
from supervisor.ledger.base import Rival, Row, RowState
from supervisor.link.frames import ConsumerFrame, Incarnation, Run
from supervisor.logs.events import Event

_NO_WORKER = Incarnation(-1, 0)


class Ack(msgspec.Struct, frozen=True):
    """Settle this delivery for good. `likeness`: as of its `Arrival`."""

    epoch: int
    tag: int
    likeness: bytes = b""


class Requeue(msgspec.Struct, frozen=True):
    """Return this delivery to its queue."""

    epoch: int
    tag: int


class Send(msgspec.Struct, frozen=True):
    """Send a frame to a worker; lost silently when its link is gone (its hello or exit notice will tell)."""

    worker: Incarnation
    frame: ConsumerFrame


class RecallAll(msgspec.Struct, frozen=True):
    """Ask all workers for what they have not begun; after what was decided to be sent to them before."""


class PublishLater(msgspec.Struct, frozen=True):
    """Ask for `publish_again(token)` after about `delay_s`: the broker did not take it."""

    token: int
    delay_s: float


class Say(msgspec.Struct, frozen=True):
    """Write a log event; before the commit, so that a crash may repeat a line but never swallow one (I5)."""

    event: Event
    text: str
    fields: dict[str, Any]
    warning: bool = False


Effect = Ack | Requeue | Send | RecallAll | Outgoing | PublishLater
"""`Outgoing`: publish it; the fate comes back under its token."""


class Turn(msgspec.Struct, frozen=True):
    """What one loop turn decided: what is said, then rows and counters for one commit. Its effects follow that."""

    said: list[Say]
    rows: dict[bytes, Row]
    counters: dict[str, int]


class UnitOfWork:
    """The decisions since the last `take()`. `epoch`: of the ledger that the rows are for. `now_s`: the ledger's time,
    set each turn; rows and windows go by it.

    `tags`: (epoch, tag) of deliveries; `likeness`: as of `Arrival`; `token`: of a publication; `warning`: a level.
    """

    def __init__(self, epoch: int) -> None:
        self.now_s = 0.0
        self._epoch = epoch
        self._said: list[Say] = []
        self._rows: dict[bytes, Row] = {}
        self._counters: dict[str, int] = {}
        self._effects: list[Effect] = []
        self._committing: list[Effect] = []  # those of the turn that was taken last

    def take(self) -> Turn:
        """All of it, once; `take_effects` of the turn before comes first."""
        turn = Turn(self._said, self._rows, self._counters)
        self._said, self._rows, self._counters = [], {}, {}
        self._committing, self._effects = self._effects, []
        return turn

    def take_effects(self) -> list[Effect]:
        """What is left to do of the turn that was taken last: it is durable."""
        effects, self._committing = self._committing, []
        return effects

    def row(self, key: bytes) -> Row | None:
        """The row this turn has already decided for the message with this `key`: newer than what the ledger says."""
        return self._rows.get(key)

    def record(self, entry: Entry, state: RowState, failure: Failure | None = None) -> None:
        """Make a state durable, with what to note of a failed run; a later one of the same turn replaces it."""
        slot, generation = (owner := entry.owner or _NO_WORKER).slot, owner.generation
        note = b"" if failure is None else msgspec.msgpack.encode(failure)
        self._rows[entry.key] = Row(
            entry.key, entry.round, entry.attempt, state, slot, generation, self.now_s, entry.id, note, self._epoch
        )

    def record_copied(self, entry: Entry) -> None:
        """Record, count and log that the broker has the copy of a failed message: its state is final.

        Raises ValueError where nothing is decided.
        """
        if entry.pending is None or entry.failure is None:
            raise ValueError("only a decided message has a copy")
        state, counter, event = CONFIRMED[entry.pending]
        self.record(entry, state, entry.failure.in_short)
        self.count(counter)
        text = f"message {entry.id!r}: {counter} {entry.failure.after(entry.attempt)}{asking(entry.failure)}"
        self.say_failure(event, text, entry, entry.failure)

    def count(self, name: str, by: int = 1) -> None:
        """Add `by` to a counter, in the same commit."""
        if by:
            self._counters[name] = self._counters.get(name, 0) + by

    def ack(self, tags: Iterable[tuple[int, int]], likeness: bytes) -> None:
        """Settle deliveries, after the commit."""
        for epoch, tag in tags:
            self._effects.append(Ack(epoch, tag, likeness))

    def requeue(self, tags: Iterable[tuple[int, int]]) -> None:
        """Return deliveries, after the commit."""
        self._effects.extend(Requeue(epoch, tag) for epoch, tag in tags)

    def send(self, worker: Incarnation, frame: ConsumerFrame) -> None:
        """Send a frame to a worker, after the commit."""
        self._effects.append(Send(worker, frame))

    def unsend(self, worker: Incarnation) -> None:
        """Withdraw what has not been sent to this worker yet."""
        self._withdraw(lambda effect: type(effect) is Send and effect.worker == worker)

    def publish(self, outgoing: Outgoing) -> None:
        """Publish, after the commit."""
        self._effects.append(outgoing)

    def publish_later(self, token: int, delay_s: float) -> None:
        """Ask for `publish_again(token)` after about `delay_s`, after the commit."""
        self._effects.append(PublishLater(token, delay_s))

    def recall(self) -> None:
        """Ask all workers for what they have not begun, after the commit."""
        self._effects.append(RecallAll())

    def revoke(self, key: bytes, token: int | None) -> None:
        """Record nothing of this message, send no run of it and do not publish the copy with this token."""
        self._rows.pop(key, None)
        self._withdraw(
            lambda effect: (
                (type(effect) is Send and type(effect.frame) is Run and effect.frame.run.key == key)
                or (type(effect) is Outgoing and effect.token == token)
            )
        )

    def void_tags(self) -> list[bytes]:
        """Settle none of the deliveries until now; the likenesses of those that were to be acked and were not yet."""
        acks = [effect for effect in (*self._committing, *self._effects) if type(effect) is Ack]
        self._withdraw(lambda effect: type(effect) is Ack or type(effect) is Requeue)
        return [effect.likeness for effect in acks if effect.likeness]

    def say(self, event: Event, text: str, about: Arrival | Entry, *, warning: bool = False, **fields: Any) -> None:
        """Log an event about a run, before the commit."""
        run = {"message_id": about.id, "round": about.round, "attempt": about.attempt}
        self._said.append(Say(event, text, run | fields, warning))

    def say_failure(self, event: Event, text: str, entry: Entry, failure: Failure, *, warning: bool = False) -> None:
        """Log what became of a failed run, with its whole diagnosis."""
        self.say(
            event,
            text,
            entry,
            warning=warning,
            cause=failure.cause,
            reason=failure.reason,
            status=failure.status,
            signal=failure.signal,
            worker=failure.worker,
            delay_s=failure.waits_s,
            stack=failure.stack,
        )

    def say_failed(self, entry: Entry, failure: Failure, attempt: str) -> None:
        """Count and log a failed run. `attempt`: which one, for people."""
        self.count("failed")
        text = f"message {entry.id!r}, {attempt}: {failure.cause}: {failure.reason}"
        self.say_failure(Event.MESSAGE_FAILED, text, entry, failure, warning=True)

    def say_saved(self, entry: Entry) -> None:
        """Count and log that a copy has taken the place of this message."""
        self.count("saved")
        text = f"message {entry.id!r} had come back too often: a copy of it takes its place before its queue drops it"
        self.say(Event.MESSAGE_SAVED, text, entry)

    def say_duplicate(self, about: Arrival | Entry, why: str, deliveries: int = 1) -> None:
        """Count and log so many `deliveries` of a message that are acked without a run; `why`: for people."""
        self.count("duplicate", deliveries)
        text = f"message {about.id!r} came again and is acked without a run: {why}"
        self.say(Event.MESSAGE_DUPLICATE, text, about)

    def say_overruled(self, row: Row, rival: Rival) -> None:
        """Log that the outcome of a run counts for nothing: another daemon had the message by then."""
        text = (
            f"message {row.id!r}, attempt {row.attempt}: its outcome ({row.state}) came too late: "
            f"{rival.host or 'another daemon'} has the message ({rival.row.state}, attempt {rival.row.attempt})"
        )
        run = {"message_id": row.id, "round": row.round, "attempt": row.attempt, "host": rival.host}
        self._said.append(Say(Event.FLEET_OVERRULED, text, run, warning=True))

    def say_id_reused(self, arrival: Arrival) -> None:
        """Log that an id on record has come with other content."""
        text = f"message id {arrival.id!r} came again with other content: it is run as another message"
        self._said.append(Say(Event.MESSAGE_ID_REUSED, text, {"message_id": arrival.id}, warning=True))

    def _withdraw(self, which: Callable[[Effect], bool]) -> None:
        self._effects = [effect for effect in self._effects if not which(effect)]
        self._committing = [effect for effect in self._committing if not which(effect)]
